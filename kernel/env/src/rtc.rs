//! The PC's real-time clock, as its registers say it (Motorola MC146818A; ACPI §4.8.2.4).
//!
//! Here rather than beside the ports, so that it is tested on any host.

use time::{Date, Month, PrimitiveDateTime, Time, UtcDateTime};

/// The registers of one moment, as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtcRegisters {
    /// Register 0x00, 0–59.
    pub second: u8,
    /// Register 0x02, 0–59.
    pub minute: u8,
    /// Register 0x04, 0–23, or 1–12 with bit 7 for the afternoon.
    pub hour: u8,
    /// Register 0x07, 1–31.
    pub day: u8,
    /// Register 0x08, 1–12.
    pub month: u8,
    /// Register 0x09, 0–99.
    pub year: u8,
    /// The register that the FADT names, if it does.
    pub century: Option<u8>,
    /// Register 0x0b: how the others are to be read.
    pub status_b: u8,
}

/// Status B: hours count from 0 to 23.
const HOURS_24: u8 = 1 << 1;
/// Status B: numbers are binary, not two decimal digits.
const BINARY: u8 = 1 << 2;
/// Hours from 1 to 12: in the afternoon.
const AFTERNOON: u8 = 1 << 7;
/// Without a century, years from here on belong to the last one.
const FIRST_YEAR_OF_1900S: u8 = 70;

impl RtcRegisters {
    /// The time they say, taken as UTC; `None` if it is none.
    pub fn decode(&self) -> Option<UtcDateTime> {
        let month = Month::try_from(self.number(self.month)?).ok()?;
        let date = Date::from_calendar_date(self.year()?, month, self.number(self.day)?).ok()?;
        let (minute, second) = (self.number(self.minute)?, self.number(self.second)?);
        let time = Time::from_hms(self.hour()?, minute, second).ok()?;
        Some(PrimitiveDateTime::new(date, time).as_utc())
    }

    fn number(&self, value: u8) -> Option<u8> {
        if self.status_b & BINARY != 0 {
            return Some(value);
        }
        let (tens, ones) = (value >> 4, value & 0xf);
        (tens < 10 && ones < 10).then_some(tens * 10 + ones)
    }

    fn hour(&self) -> Option<u8> {
        if self.status_b & HOURS_24 != 0 {
            return self.number(self.hour);
        }
        let hour = self.number(self.hour & !AFTERNOON)?;
        let noon = if self.hour & AFTERNOON != 0 { 12 } else { 0 };
        (1..=12).contains(&hour).then_some(hour % 12 + noon)
    }

    fn year(&self) -> Option<i32> {
        let year = self.number(self.year).filter(|&year| year < 100)?;
        // A century that makes no sense is a register that is used for something else.
        let century = self.century.and_then(|century| self.number(century));
        let century = century.filter(|century| (19..=29).contains(century));
        let guess = if year < FIRST_YEAR_OF_1900S { 20 } else { 19 };
        Some(i32::from(century.unwrap_or(guess)) * 100 + i32::from(year))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a clock in the mode of `status_b` has in its registers at `time`.
    fn encode(time: UtcDateTime, status_b: u8, century: bool) -> RtcRegisters {
        let digits = |value: u8| match status_b & BINARY {
            0 => value / 10 * 16 + value % 10,
            _ => value,
        };
        let afternoon = if time.hour() >= 12 { AFTERNOON } else { 0 };
        let hour = match (status_b & HOURS_24, time.hour() % 12) {
            (0, 0) => digits(12) | afternoon,
            (0, hour) => digits(hour) | afternoon,
            _ => digits(time.hour()),
        };
        RtcRegisters {
            second: digits(time.second()),
            minute: digits(time.minute()),
            hour,
            day: digits(time.day()),
            month: digits(u8::from(time.month())),
            year: digits((time.year() % 100) as u8),
            century: century.then(|| digits((time.year() / 100) as u8)),
            status_b,
        }
    }

    proptest! {
        #[test]
        fn every_second_of_every_mode_is_read_as_it_was_set(
            seconds in 0_i64..4_102_444_800, // 1970 to 2100
            status_b in 0_u8..8,
        ) {
            let time = UtcDateTime::from_unix_timestamp(seconds).unwrap();
            prop_assert_eq!(encode(time, status_b, true).decode(), Some(time));
            if (1970..2070).contains(&time.year()) {
                prop_assert_eq!(encode(time, status_b, false).decode(), Some(time));
            }
        }

        #[test]
        fn whatever_the_registers_hold_is_a_time_or_none(
            bytes in any::<[u8; 7]>(), century in any::<Option<u8>>(), status_b: u8,
        ) {
            let [second, minute, hour, day, month, year, _] = bytes;
            let registers =
                RtcRegisters { second, minute, hour, day, month, year, century, status_b };
            if let Some(time) = registers.decode() {
                prop_assert!((1900..3000).contains(&time.year()));
            }
        }
    }

    #[test]
    fn a_clock_that_is_not_there_has_no_time() {
        let ones = RtcRegisters {
            second: 0xff,
            minute: 0xff,
            hour: 0xff,
            day: 0xff,
            month: 0xff,
            year: 0xff,
            century: Some(0xff),
            status_b: 0xff,
        };
        assert_eq!(ones.decode(), None);
    }

    #[test]
    fn noon_and_midnight_of_a_twelve_hour_clock_are_told_apart() {
        let noon = UtcDateTime::from_unix_timestamp(43_200).unwrap();
        assert_eq!(encode(noon, 0, true).hour, 0x92);
        assert_eq!(encode(noon, 0, true).decode().map(UtcDateTime::hour), Some(12));
        assert_eq!(encode(UtcDateTime::UNIX_EPOCH, 0, true).hour, 0x12);
        let midnight = encode(UtcDateTime::UNIX_EPOCH, 0, true).decode();
        assert_eq!(midnight.map(UtcDateTime::hour), Some(0));
    }
}
