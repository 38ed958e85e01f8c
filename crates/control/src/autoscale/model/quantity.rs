//! Kubernetes' quantities (`100m`, `1.5Gi`, `1e3`) as whole numbers.

/// Digits that are read; a quantity has at most 18 or so.
const DIGITS_MAX: usize = 36;

/// A quantity in thousandths, rounded up; `None` when it is none, or does not fit.
fn thousandths(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > DIGITS_MAX {
        return None;
    }
    let (binary, decimal) = scale(suffix)?;
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    // In thousandths: three more decimal places than the number has.
    let exponent = decimal + 3 - i32::try_from(fraction.len()).ok()?;
    value = value.checked_mul(1i128.checked_shl(binary)?)?;
    value = match u32::try_from(exponent) {
        Ok(exponent) => value.checked_mul(10i128.checked_pow(exponent)?)?,
        Err(_) => match 10i128.checked_pow(exponent.unsigned_abs()) {
            Some(divisor) => (value + divisor - 1) / divisor,
            None => i128::from(value > 0),
        },
    };
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            (-30..=30).contains(&exponent).then_some((0, exponent))?
        }
    })
}

/// What a quantity of this resource is: processors in thousandths, all else in units. A quantity beyond all bounds is the
/// largest there is, so that what asks for it fits nowhere.
pub(crate) fn amount(resource: &str, quantity: &str) -> i64 {
    match thousandths(quantity) {
        Some(value) if resource == super::CPU => value,
        Some(value) => value.div_euclid(1000) + i64::from(value.rem_euclid(1000) > 0),
        // Too large for thousandths: memory in Ei, for example.
        None => whole_units(quantity).unwrap_or(i64::MAX),
    }
}

/// A quantity without a fraction that is too large to be counted in thousandths.
fn whole_units(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (binary, decimal) = scale(suffix)?;
    let number = number.parse::<i64>().ok()?;
    number.checked_mul(1i64.checked_shl(binary)?)?.checked_mul(10i64.checked_pow(u32::try_from(decimal).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_as_they_are_written() {
        for (resource, text, expected) in [
            ("cpu", "1", 1000),
            ("cpu", "100m", 100),
            ("cpu", "0.1", 100),
            ("cpu", ".5", 500),
            ("cpu", "2.", 2000),
            ("cpu", "1e1", 10_000),
            ("cpu", "1n", 1),
            ("cpu", "1500u", 2),
            ("memory", "1Gi", 1 << 30),
            ("memory", "1.5Ki", 1536),
            ("memory", "128974848", 128_974_848),
            ("memory", "129e6", 129_000_000),
            ("memory", "1M", 1_000_000),
            ("memory", "100m", 1),
            ("memory", "1Ei", 1 << 60),
            ("memory", "9Ei", i64::MAX),
            ("nvidia.com/gpu", "2", 2),
            ("memory", "nonsense", i64::MAX),
            ("memory", "", i64::MAX),
            ("memory", "1.2.3", i64::MAX),
            ("memory", "-1Ki", -1024),
        ] {
            assert_eq!(amount(resource, text), expected, "{resource} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read_without_harm(text in ".{0,40}") {
            let _ = amount("cpu", &text);
            let _ = amount("memory", &text);
        }

        #[test]
        fn more_is_never_less(a in 0i64..1_000_000, b in 0i64..1_000_000, suffix in 0usize..9) {
            let suffix = ["", "m", "k", "M", "Ki", "Mi", "Gi", "u", "e2"][suffix];
            let (low, high) = (a.min(b), a.max(b));
            let of = |n: i64| amount("memory", &format!("{n}{suffix}"));
            proptest::prop_assert!(of(low) <= of(high));
        }
    }
}
