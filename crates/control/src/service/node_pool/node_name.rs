//! `node_name_mode`: `nodeip`, or `customized,<prefix>,<digits>,<suffix>`.

use sampan_store::model::{Fault, NodeNameMode, Outcome};

/// A node's name is its machine's host name, too.
const NAME_MAX: usize = 63;

/// What a text of this field means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `<region>.<address>`.
    ByAddress,
    /// As the user wants.
    Customized(NodeNameMode),
    /// No mode: published examples have a ready name here.
    NoMode,
}

/// Reads the field.
pub(crate) fn parse(field: &str, text: &str) -> Outcome<Naming> {
    match text.split_once(',') {
        None if text.is_empty() || text == "nodeip" => Ok(Naming::ByAddress),
        Some(("customized", rest)) => customized(field, text, rest).map(Naming::Customized),
        _ => Ok(Naming::NoMode),
    }
}

fn customized(field: &str, text: &str, rest: &str) -> Outcome<NodeNameMode> {
    let refuse = |why: &str| {
        let form =
            "it has the form customized,<prefix>,<number of digits>,<suffix>, for example customized,test.,5,.com";
        Err(Fault::invalid(field, format!("{field} {text:?}: {why}; {form}")))
    };
    let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
    let [prefix, digits, suffix] = parts.as_slice() else { return refuse("it has not three parts after customized") };
    let Some(digits) = digits.parse::<u8>().ok().filter(|n| (5..=12).contains(n)) else {
        return refuse("the number of digits of the address must be 5 to 12");
    };
    let mode = NodeNameMode { prefix: (*prefix).to_owned(), digits, suffix: (*suffix).to_owned() };
    let name = mode.name(std::net::Ipv4Addr::UNSPECIFIED);
    let is_part = |part: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !part.is_empty() && part.chars().all(|c| ends(c) || c == '-') && part.starts_with(ends) && part.ends_with(ends)
    };
    if name.len() > NAME_MAX {
        return refuse("node names would have more than 63 characters");
    }
    if !name.split('.').all(is_part) {
        return refuse(
            "the parts of a node name are lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
        );
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(mode: &str, ip: [u8; 4]) -> String {
        match parse("node_name_mode", mode).expect("a mode") {
            Naming::Customized(mode) => mode.name(ip.into()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_published_names() {
        assert_eq!(name("customized,aliyun.com,5,test", [192, 168, 0, 55]), "aliyun.com00055test");
        assert_eq!(name("customized,test.,5,.com", [192, 168, 0, 55]), "test.00055.com");
        assert_eq!(name("customized,,12,", [10, 200, 0, 7]), "010200000007");
        assert_eq!(name("customized,a,8,-z", [10, 200, 0, 7]), "a00000007-z");
    }

    #[test]
    fn what_is_no_mode() {
        assert_eq!(parse("f", "nodeip").expect("fine"), Naming::ByAddress);
        assert_eq!(parse("f", "").expect("fine"), Naming::ByAddress);
        assert_eq!(parse("f", "aliyun.com00055test").expect("as published"), Naming::NoMode);
    }

    #[test]
    fn names_that_no_node_can_have() {
        for mode in [
            "customized,a,4,b",
            "customized,a,13,b",
            "customized,a,b,c",
            "customized,A,5,b",
            "customized,-a,5,b",
            "customized,a,5,b.",
            "customized,a..,5,",
            "customized,a_b,5,",
            "customized,a,5",
            "customized,a,5,b,c",
        ] {
            let fault = parse("f", mode).expect_err(mode);
            assert!(fault.message.contains("customized,test.,5,.com"), "{}", fault.message);
        }
        assert!(parse("f", &format!("customized,{},5,", "a".repeat(60))).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_names_every_node(text in "customized,[a-z0-9.-]{0,12},[0-9]{1,2},[a-z0-9.-]{0,12}", ip: [u8; 4]) {
            if let Ok(Naming::Customized(mode)) = parse("f", &text) {
                let name = mode.name(ip.into());
                prop_assert!(name.len() <= NAME_MAX);
                prop_assert!(name.split('.').all(|p| !p.is_empty() && !p.starts_with('-') && !p.ends_with('-')));
            }
        }
    }
}
