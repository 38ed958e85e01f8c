//! Who asks for something.

use sampan_store::model::Timestamp;

/// The nonce of a changing request; it is stored in the same transaction as the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// Key that signed.
    pub access_key_id: String,
    /// The nonce as sent.
    pub value: String,
    /// After this moment a repetition is refused by its date already.
    pub expires: Timestamp,
}

/// A verified caller and what came with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// Account whose resources are meant.
    pub account_id: String,
    /// The account itself or one of its users.
    pub principal: String,
    /// Whether the principal is the account itself.
    pub is_root: bool,
    /// Upper-case UUID, returned in every answer.
    pub request_id: String,
    /// Region of the request; a body's own `region_id` goes before it.
    pub region_id: String,
    /// Nonce, if one was sent.
    pub nonce: Option<Nonce>,
}
