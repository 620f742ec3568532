//! From when until when a certificate is valid.

/// The times of a certificate, in seconds since the beginning of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first valid second.
    pub begins: i64,
    /// The last valid second.
    pub ends: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The validity of a certificate in DER, as RFC 5280, section 4.1, lays it out. `None` if it is
/// not a certificate.
pub fn of(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(certificate, SEQUENCE)?;
    // The version has a default, so it may be absent.
    let rest = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial_number, rest) = element(rest, INTEGER)?;
    let (_signature_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (begins, rest) = time(validity)?;
    let (ends, _) = time(rest)?;
    Some(Validity { begins, ends })
}

/// The content of an element with this tag at the beginning of `bytes`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // A number of bytes that hold the length.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits.iter().fold(0, |n, &b| n << 8 | usize::from(b));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (first == tag).then_some((content, rest))
}

/// The time at the beginning of `bytes` and what follows it: `YYMMDDHHMMSSZ`, whose years are
/// 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest, is_short) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, true),
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (text, rest, false)
        }
    };
    let (text, zone) = text.split_at_checked(if is_short { 12 } else { 14 })?;
    if zone != b"Z" || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, &d| 10 * n + i64::from(d - b'0'));
    let (year, text) = text.split_at(text.len() - 10);
    let year = match (number(year), is_short) {
        (year @ 0..50, true) => 2000 + year,
        (year, true) => 1900 + year,
        (year, false) => year,
    };
    let field = |at: usize| number(&text[2 * at..2 * at + 2]);
    let days = days(year, field(0), field(1));
    let seconds = 3600 * field(2) + 60 * field(3) + field(4);
    Some((86_400 * days + seconds, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year is counted from March, so
/// that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        ..=2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01.
    const NEW_YEAR_2026: i64 = 1_767_225_600;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (date, wanted) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((1972, 2, 29), 789),
            ((1972, 3, 1), 790),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 1, 1), NEW_YEAR_2026 / 86_400),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days(date.0, date.1, date.2), wanted, "{date:?}");
        }
    }

    fn made(begins: (i32, u8, u8), ends: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(begins.0, begins.1, begins.2);
        params.not_after = rcgen::date_time_ymd(ends.0, ends.1, ends.2);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // Up to 2049 a time has two digits of the year, from 2050 on four.
        let validity = of(&made((2026, 1, 1), (2049, 12, 31))).unwrap();
        assert_eq!(validity.begins, NEW_YEAR_2026);
        assert_eq!(validity.ends, 2_524_521_600);
        let validity = of(&made((1999, 12, 31), (2100, 3, 1))).unwrap();
        assert_eq!(validity.begins, 946_598_400);
        assert_eq!(validity.ends, 47_541 * 86_400);
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let whole = made((2026, 1, 1), (2049, 12, 31));
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None, "{end}");
        }
        assert_eq!(of(&[0x30, 0x84, 255, 255, 255, 255]), None);
        assert_eq!(of(&[0x30, 0xff]), None);
        assert_eq!(of(&[0x30; 1000]), None);
    }
}
