//! How a cluster's node pools scale by themselves (catalogue 9.17).

use sampan_store::model::{AutoscalingConfig, Cluster, Expander, Fault, Level, Outcome, TaskType};

use crate::service::{
    RequestContext, Service,
    change::{About, Notice},
    fields,
};

/// Longest duration that is taken, in seconds.
const SECONDS_MAX: u64 = 7 * 86_400;
/// Longest `scan_interval`, in seconds.
const SCAN_MAX: u64 = 3_600;

/// An autoscaling configuration, as asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalingInput {
    /// `cool_down_duration`: minutes, or with a unit (`10m`).
    pub cool_down_duration: Option<String>,
    /// `unneeded_duration`: minutes, or with a unit.
    pub unneeded_duration: Option<String>,
    /// `utilization_threshold`: a ratio.
    pub utilization_threshold: Option<String>,
    /// `gpu_utilization_threshold`: a ratio.
    pub gpu_utilization_threshold: Option<String>,
    /// `scan_interval`: seconds, or with a unit.
    pub scan_interval: Option<String>,
    /// `scale_down_enabled`.
    pub scale_down_enabled: Option<bool>,
    /// `expander`.
    pub expander: Option<String>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Sets how the cluster's pools scale by themselves, as a whole: what is not named is as by default. Answers what is in
    /// force now.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, and InvalidParameter of what is wrong.
    pub async fn autoscaling_set(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &AutoscalingInput,
    ) -> Outcome<AutoscalingConfig> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let config = check(input)?;
        let notices: Vec<Notice> = Notice::unknown_fields(&input.unknown_fields).into_iter().collect();
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if cluster.deletion.is_some() {
                return Err(Fault::state(format!("cluster {cluster_id} is being deleted")));
            }
            let now = change.now;
            change.update(
                &cluster,
                &Cluster { autoscaling: Some(config.clone()), updated: now, ..cluster.value.clone() },
            );
            let about = About::Cluster(&cluster.id);
            change.event(about, TaskType::ClusterModify, Level::Info, "AutoscalingConfigured", words(&config));
            change.notices(about, TaskType::ClusterModify, &notices);
            Ok(config.clone())
        })
        .await
    }
}

fn words(config: &AutoscalingConfig) -> String {
    let down = if config.scale_down_enabled {
        format!(
            "nodes below {} of requests ({} of GPUs) leave when they were not needed for {} s, and {} s after they came at \
             the earliest",
            config.utilization_threshold,
            config.gpu_utilization_threshold,
            config.unneeded_seconds,
            config.cool_down_seconds
        )
    } else {
        "nodes do not leave".to_owned()
    };
    format!("Autoscaling is looked at every {} s; {down}", config.scan_interval_seconds)
}

fn check(input: &AutoscalingInput) -> Outcome<AutoscalingConfig> {
    let default = AutoscalingConfig::default();
    let seconds = |field: &str, value: &Option<String>, unit: u64, least: u64, most: u64, default: u32| {
        match fields::given(value) {
            Some(text) => duration(field, text, unit, least, most),
            None => Ok(default),
        }
    };
    let ratio = |field: &str, value: &Option<String>, default: f64| match fields::given(value) {
        Some(text) => ratio(field, text),
        None => Ok(default),
    };
    let expander = match fields::given(&input.expander) {
        Some(word) => {
            fields::one_of("expander", word, &Expander::WORDS)?;
            Expander::named(word).unwrap_or_default()
        }
        None => default.expander,
    };
    Ok(AutoscalingConfig {
        cool_down_seconds: seconds(
            "cool_down_duration",
            &input.cool_down_duration,
            60,
            0,
            SECONDS_MAX,
            default.cool_down_seconds,
        )?,
        unneeded_seconds: seconds(
            "unneeded_duration",
            &input.unneeded_duration,
            60,
            0,
            SECONDS_MAX,
            default.unneeded_seconds,
        )?,
        utilization_threshold: ratio(
            "utilization_threshold",
            &input.utilization_threshold,
            default.utilization_threshold,
        )?,
        gpu_utilization_threshold: ratio(
            "gpu_utilization_threshold",
            &input.gpu_utilization_threshold,
            default.gpu_utilization_threshold,
        )?,
        scan_interval_seconds: seconds(
            "scan_interval",
            &input.scan_interval,
            1,
            1,
            SCAN_MAX,
            default.scan_interval_seconds,
        )?,
        scale_down_enabled: input.scale_down_enabled.unwrap_or(default.scale_down_enabled),
        expander,
    })
}

/// Reads a share, 0 to 1.
fn ratio(field: &str, text: &str) -> Outcome<f64> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| Fault::invalid(field, format!("{field} {text:?} is not a ratio from 0 to 1, such as 0.5")))
}

/// Reads seconds: `10`, of the field's own unit, or `1h`, `10m`, `90s`, `1m30s`.
fn duration(field: &str, text: &str, unit: u64, least: u64, most: u64) -> Outcome<u32> {
    let value = parse(text, unit).filter(|seconds| (least..=most).contains(seconds));
    value.and_then(|seconds| u32::try_from(seconds).ok()).ok_or_else(|| {
        let words = if unit == 60 { "minutes" } else { "seconds" };
        Fault::invalid(
            field,
            format!(
                "{field} {text:?} is not a duration from {least} s to {most} s; give {words} as a number, or a unit, such as 10m or 30s"
            ),
        )
    })
}

fn parse(text: &str, unit: u64) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(unit);
    }
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(end);
        let mut letters = after.chars();
        let factor = match letters.next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = letters.as_str();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_and_without_a_unit() {
        for (text, unit, expected) in [
            ("10", 60, Some(600)),
            ("10m", 60, Some(600)),
            ("10m", 1, Some(600)),
            ("30", 1, Some(30)),
            ("30s", 60, Some(30)),
            ("1m30s", 60, Some(90)),
            ("1h", 1, Some(3600)),
            ("m", 60, None),
            ("10x", 60, None),
            ("10m5", 60, None),
            ("-1", 60, None),
            ("1.5m", 60, None),
            ("99999999999999999999", 60, None),
            ("18446744073709551615h", 60, None),
            ("10ñ", 60, None),
        ] {
            assert_eq!(parse(text, unit), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_named_is_as_by_default() {
        assert_eq!(check(&AutoscalingInput::default()).expect("fine"), AutoscalingConfig::default());
        let of_the_documents = AutoscalingInput {
            cool_down_duration: Some("10m".into()),
            unneeded_duration: Some("10m".into()),
            utilization_threshold: Some("0.5".into()),
            gpu_utilization_threshold: Some("0.5".into()),
            scan_interval: Some("30s".into()),
            ..AutoscalingInput::default()
        };
        assert_eq!(check(&of_the_documents).expect("fine"), AutoscalingConfig::default());
    }

    #[test]
    fn refusals_name_the_field() {
        let with = |field: &str, value: &str| {
            let mut input = AutoscalingInput::default();
            let slot = match field {
                "cool_down_duration" => &mut input.cool_down_duration,
                "unneeded_duration" => &mut input.unneeded_duration,
                "utilization_threshold" => &mut input.utilization_threshold,
                "gpu_utilization_threshold" => &mut input.gpu_utilization_threshold,
                "scan_interval" => &mut input.scan_interval,
                _ => &mut input.expander,
            };
            *slot = Some(value.to_owned());
            check(&input)
        };
        for (field, value) in [
            ("cool_down_duration", "soon"),
            ("unneeded_duration", "8d"),
            ("unneeded_duration", "10081"),
            ("utilization_threshold", "1.1"),
            ("utilization_threshold", "NaN"),
            ("gpu_utilization_threshold", "-0.1"),
            ("scan_interval", "0"),
            ("scan_interval", "2h"),
            ("expander", "price"),
        ] {
            let fault = with(field, value).expect_err(value);
            assert!(fault.message.starts_with(field), "{}", fault.message);
        }
        assert!(with("cool_down_duration", "0").is_ok() && with("expander", "priority").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = duration("scan_interval", &text, 1, 1, SCAN_MAX);
            let _ = ratio("utilization_threshold", &text);
        }
    }
}
