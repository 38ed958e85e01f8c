//! Dates of requests.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads the three forms that HTTP knows, a form without comma that the documents print, and ISO 8601 in UTC.
/// The day of the week is not compared with the date: one that the documents print is wrong.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('T') {
        return text.parse().ok();
    }
    let mut parts = Parts::default();
    for part in text.split([' ', ',', '-']).filter(|part| !part.is_empty()) {
        parts.take(part)?;
    }
    parts.timestamp()
}

/// Parts of a date, in whatever order they come.
#[derive(Default)]
struct Parts {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    time: Option<(i8, i8, i8)>,
    weekday_seen: bool,
}

impl Parts {
    fn take(&mut self, part: &str) -> Option<()> {
        if part.contains(':') {
            let mut numbers = part.split(':').map(two_digits);
            let time = (numbers.next()??, numbers.next()??, numbers.next()??);
            return (numbers.next().is_none() && self.time.replace(time).is_none()).then_some(());
        }
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.take_number(part);
        }
        let word = part.to_ascii_lowercase();
        if let Some(month) = MONTHS.iter().position(|name| *name == word) {
            return self.month.replace(i8::try_from(month).ok()? + 1).is_none().then_some(());
        }
        let zone_or_weekday = matches!(word.as_str(), "gmt" | "utc" | "z" | "+0000") || self.is_weekday(&word);
        zone_or_weekday.then_some(())
    }

    fn take_number(&mut self, part: &str) -> Option<()> {
        if self.day.is_none() {
            self.day = Some(two_digits(part)?);
            return Some(());
        }
        let year: i16 = part.parse().ok()?;
        let year = match part.len() {
            4 => year,
            // RFC 850 has two digits; no client of this century means the last one.
            2 => 2000 + year,
            _ => return None,
        };
        self.year.replace(year).is_none().then_some(())
    }

    fn is_weekday(&mut self, word: &str) -> bool {
        let weekday = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().any(|name| word.starts_with(name));
        weekday && !std::mem::replace(&mut self.weekday_seen, true)
    }

    fn timestamp(&self) -> Option<Timestamp> {
        let (hour, minute, second) = self.time?;
        let civil = DateTime::new(self.year?, self.month?, self.day?, hour, minute, second, 0).ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }
}

fn two_digits(text: &str) -> Option<i8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_form_of_the_same_second() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun 6 Nov 1994 08:49:37 GMT",
            "6 Nov 1994 08:49:37 +0000",
            "Sun Nov  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
            " 1994-11-06T09:49:37+01:00 ",
        ] {
            assert_eq!(parse(text).map(Timestamp::as_second), Some(784_111_777), "{text}");
        }
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT").unwrap().to_string(), "2094-11-06T08:49:37Z");
    }

    #[test]
    fn refuses_what_is_no_date_in_utc() {
        for text in [
            "",
            "now",
            "784111777",
            "Sun, 06 Nov 1994 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 08:49:37 GMT",
            "Sun Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov Nov 1994 08:49:37 GMT",
            "1994-11-06",
            "1994-11-06T08:49:37",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), dateish in "[0-9A-Za-z:, +-]{0,40}") {
            parse(&text);
            parse(&dateish);
        }
    }
}
