//! Times at which a profile holds: days and hours in a named zone.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use crate::names::Timestamp;

/// Days and hours in a time zone. Hours past midnight belong to the day on which they began.
#[derive(Clone, Debug)]
pub struct Schedule {
    days: Option<Vec<Weekday>>,
    hours: Option<(Time, Time)>,
    zone: TimeZone,
}

impl Schedule {
    /// Parses the parts; a part that is left out does not narrow.
    ///
    /// # Errors
    /// Says what is wrong, and what would be right.
    pub fn parse(
        days: Option<&[String]>,
        hours: Option<&str>,
        zone: Option<&str>,
    ) -> Result<Self, String> {
        if days.is_none() && hours.is_none() {
            return Err("write `days`, `hours` or both".to_owned());
        }
        let days = days
            .map(|days| days.iter().map(|day| parse_day(day)).collect::<Result<Vec<_>, _>>())
            .transpose()?;
        if days.as_ref().is_some_and(Vec::is_empty) {
            return Err("`days` is empty: the profile would never hold".to_owned());
        }
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                format!("`{name}` is not a time zone; write for instance Europe/Berlin or UTC")
            })?,
        };
        Ok(Self { days, hours: hours.map(parse_hours).transpose()?, zone })
    }

    /// Whether it applies at this instant.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_second(now.0) else { return false };
        let local = instant.to_zoned(self.zone.clone());
        let (time, mut day) = (local.time(), local.weekday());
        if let Some((start, end)) = self.hours {
            let inside = if start <= end {
                start <= time && time < end
            } else {
                start <= time || time < end
            };
            if !inside {
                return false;
            }
            if start > end && time < end {
                day = day.previous();
            }
        }
        self.days.as_ref().is_none_or(|days| days.contains(&day))
    }
    /// Times in the week from `from` on at which it may begin or stop to apply, and those just
    /// before.
    #[must_use]
    pub fn edges(&self, from: Timestamp) -> Vec<Timestamp> {
        let Ok(instant) = jiff::Timestamp::from_second(from.0) else { return Vec::new() };
        let first = instant.to_zoned(self.zone.clone()).date();
        let times = match self.hours {
            Some((start, end)) => vec![start, end],
            None => vec![Time::midnight()],
        };
        let days = (0..8_i64).filter_map(|day| first.checked_add(jiff::Span::new().days(day)).ok());
        let moments = days.flat_map(|day| times.iter().map(move |time| day.to_datetime(*time)));
        let moments = moments.filter_map(|moment| moment.to_zoned(self.zone.clone()).ok());
        moments
            .flat_map(|moment| [moment.timestamp().as_second(), moment.timestamp().as_second() - 1])
            .map(Timestamp)
            .collect()
    }
}

fn parse_day(text: &str) -> Result<Weekday, String> {
    Ok(match text {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => {
            return Err(format!(
                "`{text}` is not a day; write mon, tue, wed, thu, fri, sat or sun"
            ));
        }
    })
}

fn parse_hours(text: &str) -> Result<(Time, Time), String> {
    let wrong = || format!("`{text}` is not a range of hours; write for instance 08:00-18:30");
    let time = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits = hour.len() == 2 && minute.len() == 2;
        Time::new(hour.parse().ok().filter(|_| digits)?, minute.parse().ok()?, 0, 0).ok()
    };
    let (start, end) = text.split_once('-').ok_or_else(wrong)?;
    match (time(start), time(end)) {
        (Some(start), Some(end)) if start != end => Ok((start, end)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second())
    }

    fn between(days: &[&str], hours: &str, zone: &str) -> Schedule {
        let days: Vec<String> = days.iter().map(|day| (*day).to_owned()).collect();
        Schedule::parse(Some(&days), Some(hours), Some(zone)).unwrap()
    }

    #[test]
    fn office_hours_hold_in_their_zone_summer_and_winter() {
        let office = between(&["mon", "tue", "wed", "thu", "fri"], "08:00-18:00", "Europe/Berlin");
        assert!(office.holds(at("2026-11-20T07:00:00Z")));
        assert!(!office.holds(at("2026-11-20T06:59:59Z")));
        assert!(!office.holds(at("2026-11-20T17:00:00Z")));
        assert!(office.holds(at("2026-07-03T06:00:00Z")));
        assert!(!office.holds(at("2026-11-22T09:00:00Z")));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = between(&["fri"], "22:00-06:00", "UTC");
        assert!(night.holds(at("2026-11-20T23:00:00Z")));
        assert!(night.holds(at("2026-11-21T05:59:59Z")));
        assert!(!night.holds(at("2026-11-21T06:00:00Z")));
        assert!(!night.holds(at("2026-11-20T05:00:00Z")));
    }

    #[test]
    fn what_could_never_hold_or_is_no_time_is_refused() {
        for (days, hours, zone) in [
            (Some(vec![]), None, None),
            (Some(vec!["Monday".to_owned()]), None, None),
            (None, Some("8-18"), None),
            (None, Some("08:00-08:00"), None),
            (None, Some("08:00-25:00"), None),
            (None, Some("08:00-18:00"), Some("Mars/Olympus")),
            (None, None, Some("UTC")),
        ] {
            assert!(
                Schedule::parse(days.as_deref(), hours, zone).is_err(),
                "{days:?} {hours:?} {zone:?}"
            );
        }
    }
}
