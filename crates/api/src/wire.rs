//! The macro that declares wire types, so that each field is a doc comment and one line.

/// Says whether a field is left out of the serialised body. Only an empty `Option` is.
pub(crate) trait Absent {
    fn is_absent(&self) -> bool {
        false
    }
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Absent for String {}
impl Absent for bool {}
impl Absent for i64 {}
impl Absent for crate::Secret {}
impl<T> Absent for Vec<T> {}
impl<K, V> Absent for std::collections::BTreeMap<K, V> {}
impl Absent for serde_json::Map<String, serde_json::Value> {}

/// Declares structs of the wire: derives what all of them need, and leaves absent options out when serialised.
/// A field that is an `Option` may be missing from a request, any other is mandatory.
macro_rules! wire {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            pub struct $name {
                $(
                    $(#[$field_meta])*
                    #[serde(skip_serializing_if = "crate::wire::Absent::is_absent")]
                    pub $field: $type,
                )*
            }

            impl crate::wire::Absent for $name {}
        )*
    };
}
