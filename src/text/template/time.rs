//! `strftime` of Python in the C locale, over the proleptic Gregorian calendar.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Year, month 1..=12 and day 1..=31 of a day number since 1970-01-01 (Howard Hinnant, `civil_from_days`).
fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// `seconds` since 1970 written after `format`; unknown directives stay as they are.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    // Years of four digits; also keeps the calendar's arithmetic far from overflow.
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (day_number, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(day_number);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = (day_number + 4).rem_euclid(7);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let name =
        |names: &[&'static str], i: i64| usize::try_from(i).ok().and_then(|i| names.get(i).copied()).unwrap_or("");
    let before = usize::try_from(month - 1).ok().and_then(|i| BEFORE.get(i)).copied().unwrap_or(0);
    let year_day = before + day + i64::from(leap && month > 2);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let bare = chars.next_if_eq(&'-').is_some();
        let Some(directive) = chars.next() else {
            out.push('%');
            break;
        };
        let number = |n: i64, width: usize| if bare { n.to_string() } else { format!("{n:0width$}") };
        out.push_str(&match directive {
            'Y' => number(year, 4),
            'C' => number(year / 100, 2),
            'y' => number(year % 100, 2),
            'm' => number(month, 2),
            'd' => number(day, 2),
            'e' => format!("{day:2}"),
            'H' => number(hour, 2),
            'I' => number(hour12, 2),
            'M' => number(minute, 2),
            'S' => number(second, 2),
            'f' => "000000".to_owned(),
            'j' => number(year_day, 3),
            'w' => weekday.to_string(),
            'u' => (if weekday == 0 { 7 } else { weekday }).to_string(),
            'p' => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            'A' => name(&DAYS, weekday).to_owned(),
            'a' => name(&DAYS, weekday).chars().take(3).collect(),
            'B' => name(&MONTHS, month - 1).to_owned(),
            'b' | 'h' => name(&MONTHS, month - 1).chars().take(3).collect(),
            'D' | 'x' => strftime("%m/%d/%y", seconds),
            'F' => strftime("%Y-%m-%d", seconds),
            'T' | 'X' => strftime("%H:%M:%S", seconds),
            'R' => strftime("%H:%M", seconds),
            'c' => strftime("%a %b %e %H:%M:%S %Y", seconds),
            's' => seconds.to_string(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            'z' | 'Z' => String::new(),
            '%' => "%".to_owned(),
            other => format!("%{other}"),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        assert_eq!(
            strftime("%d %b %Y|%A %B %-d|%j|%H:%M %p %I", 1_768_435_200),
            "15 Jan 2026|Thursday January 15|015|00:00 AM 12"
        );
        assert_eq!(strftime("%Y-%m-%d", 951_782_400), "2000-02-29");
        assert_eq!(strftime("%F %q%", -1), "1969-12-31 %q%");
    }
}
