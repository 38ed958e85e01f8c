//! Maintenance windows: whether one is open. Pure.

use std::time::Duration;

use jiff::{
    ToSpan as _,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use sampan_store::model::{MaintenanceWindow, Timestamp};

/// A window lasts at most a day, so one that is open now began today or yesterday.
const DAYS_BACK: i32 = 1;
/// Longest window.
const HOURS_MAX: u64 = 24;

/// When the window that is open now began; `None`: none is open. A window without a legible time or day is never open.
pub(in crate::reconcile) fn open_since(window: &MaintenanceWindow, now: Timestamp) -> Option<Timestamp> {
    if !window.enable {
        return None;
    }
    let (time, duration) = (start_time(&window.maintenance_time)?, duration(&window.duration)?);
    let days: Vec<Weekday> = window.weekly_period.split(',').filter_map(|day| weekday(day.trim())).collect();
    let today = now.to_zoned(TimeZone::UTC).date();
    // Today's first: windows of a day's length may touch, and the later one counts.
    (0..=DAYS_BACK)
        .filter_map(|back| today.checked_sub(back.days()).ok())
        .filter(|date| days.contains(&date.weekday()))
        .filter_map(|date| begin(date, time))
        .find(|begun| {
            *begun <= now && Duration::try_from(now.duration_since(*begun)).is_ok_and(|lasts| lasts < duration)
        })
}

fn begin(date: Date, time: Time) -> Option<Timestamp> {
    date.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// `03:00:00Z`, or the time of day (UTC) of a whole timestamp.
fn start_time(text: &str) -> Option<Time> {
    let clock = text.strip_suffix('Z').and_then(|clock| clock.parse::<Time>().ok());
    clock.or_else(|| Some(text.parse::<Timestamp>().ok()?.to_zoned(TimeZone::UTC).time()))
}

/// `3h`.
fn duration(text: &str) -> Option<Duration> {
    let hours: u64 = text.strip_suffix('h')?.parse().ok()?;
    (1..=HOURS_MAX).contains(&hours).then(|| Duration::from_secs(hours * 3600))
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "Monday" => Weekday::Monday,
        "Tuesday" => Weekday::Tuesday,
        "Wednesday" => Weekday::Wednesday,
        "Thursday" => Weekday::Thursday,
        "Friday" => Weekday::Friday,
        "Saturday" => Weekday::Saturday,
        "Sunday" => Weekday::Sunday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

    fn window(time: &str, duration: &str, days: &str) -> MaintenanceWindow {
        MaintenanceWindow {
            enable: true,
            maintenance_time: time.into(),
            duration: duration.into(),
            weekly_period: days.into(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_window_opens_and_closes() {
        // 2024-01-04 is a Thursday.
        let window = window("03:00:00Z", "3h", "Monday,Thursday");
        for (now, begun) in [
            ("2024-01-04T02:59:59Z", None),
            ("2024-01-04T03:00:00Z", Some("2024-01-04T03:00:00Z")),
            ("2024-01-04T05:59:59.999Z", Some("2024-01-04T03:00:00Z")),
            ("2024-01-04T06:00:00Z", None),
            ("2024-01-05T04:00:00Z", None),
            ("2024-01-08T04:00:00Z", Some("2024-01-08T03:00:00Z")),
        ] {
            assert_eq!(open_since(&window, at(now)), begun.map(at), "{now}");
        }
        let off = MaintenanceWindow { enable: false, ..window };
        assert_eq!(open_since(&off, at("2024-01-04T04:00:00Z")), None);
    }

    #[test]
    fn a_window_goes_on_after_midnight() {
        let window = window("22:00:00Z", "5h", "Sunday");
        // 2024-01-07 is a Sunday.
        assert_eq!(open_since(&window, at("2024-01-08T02:59:00Z")), Some(at("2024-01-07T22:00:00Z")));
        assert_eq!(open_since(&window, at("2024-01-08T03:00:00Z")), None);
        let touching = super::tests::window("12:00:00Z", "24h", "Sunday,Monday");
        assert_eq!(open_since(&touching, at("2024-01-08T12:00:00Z")), Some(at("2024-01-08T12:00:00Z")));
    }

    #[test]
    fn an_illegible_window_is_never_open() {
        for (time, duration, days) in
            [("", "3h", "Monday"), ("03:00:00Z", "3", "Monday"), ("03:00:00Z", "3h", "Someday")]
        {
            for day in 1..8 {
                let now = at(&format!("2024-01-0{day}T03:30:00Z"));
                assert_eq!(open_since(&window(time, duration, days), now), None, "{time} {duration} {days}");
            }
        }
        let with_date = window("2022-01-01T11:00:00+08:00", "3h", "Thursday");
        assert_eq!(open_since(&with_date, at("2024-01-04T03:30:00Z")), Some(at("2024-01-04T03:00:00Z")));
    }

    proptest! {
        /// Against the definition: some day of the list begins a window that holds this second.
        #[test]
        fn as_defined(second in 1_704_067_200i64..1_735_689_600, begin in 0i64..86_400, hours in 1i64..=24, days in 1u8..128) {
            let names: Vec<&str> = (0..7).filter(|n| days & (1 << n) != 0).map(|n| DAYS[n]).collect();
            let time = format!("{:02}:{:02}:{:02}Z", begin / 3600, begin / 60 % 60, begin % 60);
            let window = window(&time, &format!("{hours}h"), &names.join(","));
            let now = Timestamp::from_second(second).expect("a time");
            // 1970-01-01 was a Thursday, the fourth of the list.
            let day = second.div_euclid(86_400);
            let holds = |day: i64| {
                let index = (day + 3).rem_euclid(7);
                let start = day * 86_400 + begin;
                (days & (1 << index) != 0 && start <= second && second < start + hours * 3600).then_some(start)
            };
            let expected = holds(day).or_else(|| holds(day - 1));
            prop_assert_eq!(open_since(&window, now).map(|begun| begun.as_second()), expected);
        }

        #[test]
        fn no_text_breaks_it(time in "\\PC{0,12}", duration in "\\PC{0,4}", days in "\\PC{0,20}") {
            let _ = open_since(&window(&time, &duration, &days), at("2024-01-04T03:30:00Z"));
        }
    }
}
