//! Quantities of Kubernetes: `100m`, `1.5`, `128Mi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The quantity in thousandths, rounded up; `None`: it cannot be read.
pub(crate) fn millis(quantity: &Quantity) -> Option<u64> {
    let value = number(&quantity.0)? * 1000.0;
    // Larger than any machine: the cast would only cut it off.
    (value.is_finite() && value >= 0.0).then(|| value.ceil().min(1e18) as u64)
}

/// The quantity in whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<u64> {
    millis(quantity).map(|millis| millis.div_ceil(1000))
}

fn number(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    if let Ok(plain) = text.parse::<f64>() {
        return Some(plain);
    }
    let (suffix, factor) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(millis(&Quantity(text.into())), expected, "{text}");
        check("100m", Some(100));
        check("1.5", Some(1500));
        check("2k", Some(2_000_000));
        check("1e3", Some(1_000_000));
        check("1Ki", Some(1_024_000));
        check("1n", Some(1));
        check("0", Some(0));
        for wrong in ["", "x", "1Zi", "-1", "inf"] {
            check(wrong, None);
        }
        assert_eq!(units(&Quantity("128Mi".into())), Some(128 << 20));
    }
}
