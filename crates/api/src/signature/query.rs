//! Percent encoding of queries, as the clients do it.

use std::borrow::Cow;
use std::fmt::Write;

/// A parameter of a query, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value; empty if there is none.
    pub value: String,
    /// Whether there was an equals sign.
    pub has_value: bool,
}

/// Splits and decodes a query or form; `+` is a space. What is not valid stays as it is, and bytes that are not
/// UTF-8 become the replacement character, so that this never fails.
pub fn decode_pairs(text: &str) -> Vec<Pair> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Pair { key: decode(key), value: decode(value), has_value: part.contains('=') }
        })
        .collect()
}

/// Encodes a name, value or path segment: all but unreserved characters (RFC 3986) become `%XX`.
pub fn encode_component(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_unreserved) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_unreserved(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

/// Encodes a query, in the order given.
pub fn encode_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (key, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&encode_component(key));
        query.push('=');
        query.push_str(&encode_component(value));
    }
    query
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

fn decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(high, low)| Some((digit(*high)?, digit(*low)?)));
        match (byte, hex) {
            (b'%', Some((high, low))) => {
                decoded.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_what_clients_send() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let pairs: Vec<_> = decode_pairs(text).into_iter().map(|pair| (pair.key, pair.value)).collect();
            let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            assert_eq!(pairs, expected, "{text}");
        };
        check("", &[]);
        check("a=1&&b", &[("a", "1"), ("b", "")]);
        check("n=a+b%20c%2B&m=%E9%9B%86%e7%be%a4", &[("n", "a b c+"), ("m", "集群")]);
        check("bad=%zz%&half=%4", &[("bad", "%zz%"), ("half", "%4")]);
        check("a=b=c", &[("a", "b=c")]);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in any::<String>()) {
            decode_pairs(&text);
        }

        #[test]
        fn decoding_undoes_encoding(key in "[^\u{0}]{1,8}", value in any::<String>()) {
            let query = encode_pairs([(key.as_str(), value.as_str())]);
            prop_assert_eq!(decode_pairs(&query), vec![Pair { key, value, has_value: true }]);
        }
    }
}
