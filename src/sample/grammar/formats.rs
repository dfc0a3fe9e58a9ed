//! The formats of strings that schemas may name, as the common forms of each: what any reader takes.
//!
//! Narrower than the standards where those are loose or need arithmetic: no leap seconds, no `--` in host names, URIs
//! with a host.

macro_rules! label {
    () => {
        "[a-zA-Z0-9]{1,15}(?:-[a-zA-Z0-9]{1,15}){0,2}"
    };
}

macro_rules! host {
    () => {
        concat!(label!(), r"(?:\.", label!(), "){0,4}")
    };
}

macro_rules! date {
    () => {
        concat!(
            r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|",
            r"(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|",
            // Leap years.
            r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
        )
    };
}

macro_rules! time {
    () => {
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

macro_rules! octet {
    () => {
        "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

/// Formats and their regular expressions, by name.
pub(super) const FORMATS: [(&str, &str); 10] = [
    ("date", concat!("^", date!(), "$")),
    ("date-time", concat!("^", date!(), "T", time!(), "$")),
    (
        "duration",
        concat!(
            r"^P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y(?:[0-9]{1,4}M(?:[0-9]{1,4}D)?)?|[0-9]{1,4}M(?:[0-9]{1,4}D)?|[0-9]{1,4}D)",
            r"(?:T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))?|",
            r"T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))$"
        ),
    ),
    ("email", concat!(r"^[a-zA-Z0-9_%+-]{1,30}(?:\.[a-zA-Z0-9_%+-]{1,30})?@", host!(), "$")),
    ("hostname", concat!("^", host!(), "$")),
    ("ipv4", concat!("^(?:", octet!(), r"\.){3}", octet!(), "$")),
    (
        "ipv6",
        concat!(
            r"^(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,3}(?::[0-9a-fA-F]{1,4}){1,3}|",
            r"::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,5})?)$"
        ),
    ),
    ("time", concat!("^", time!(), "$")),
    (
        "uri",
        concat!(
            "^[a-zA-Z][a-zA-Z0-9+-]{0,15}://",
            host!(),
            r"(?::[1-9][0-9]{0,3})?(?:/[a-zA-Z0-9._~-]{0,60}){0,12}",
            r"(?:\?[a-zA-Z0-9._~=&-]{0,200})?(?:#[a-zA-Z0-9._~-]{0,60})?$"
        ),
    ),
    ("uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"),
];
