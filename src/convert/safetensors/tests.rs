use proptest::prelude::*;

use super::*;

/// A file of this header and `n` bytes of data.
fn file(header: &str, n: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend((0..n).map(|i| i as u8));
    out
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"c":{"dtype":"U8","shape":[0,4],"data_offsets":[16,16]}}"#;

fn refused(header: &str, n: usize, want: &str) {
    let fault = scan(&file(header, n)).expect_err(header);
    assert!(fault.message.contains(want), "{header}: found {:?}, expected {want:?}", fault.message);
}

#[test]
fn a_good_file_gives_its_tensors() {
    let tensors = scan(&file(GOOD, 16)).unwrap();
    let names: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.bytes, t.shape.len())).collect();
    assert_eq!(names, [("a.weight", 12, 2), ("b", 4, 0), ("c", 0, 2)]);
    assert_eq!(tensors[0].offset, 8 + GOOD.len());
}

#[test]
fn each_lie_is_refused_by_name() {
    let one = |entry: &str| format!(r#"{{"w":{entry}}}"#);
    let cases: &[(&str, &str)] = &[
        (r#"{"dtype":"BF17","shape":[2],"data_offsets":[0,4]}"#, "unknown dtype `BF17`"),
        (r#"{"dtype":7,"shape":[2],"data_offsets":[0,4]}"#, "`dtype` is no text"),
        (r#"{"shape":[2],"data_offsets":[0,4]}"#, "`dtype` is no text"),
        (r#"{"dtype":"BF16","data_offsets":[0,4]}"#, "`shape` is no list"),
        (r#"{"dtype":"BF16","shape":[-2],"data_offsets":[0,4]}"#, "`shape` holds -2"),
        (r#"{"dtype":"BF16","shape":[2.0],"data_offsets":[0,4]}"#, "`shape` holds 2.0"),
        (r#"{"dtype":"BF16","shape":[2],"data_offsets":[0]}"#, "holds 1 numbers"),
        (r#"{"dtype":"BF16","shape":[2],"data_offsets":[0,4,4]}"#, "holds 3 numbers"),
        (r#"{"dtype":"BF16","shape":[2],"data_offsets":[4,0]}"#, "bytes 4 to 0"),
        (r#"{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}"#, "bytes 0 to 6 of the data, which are 4"),
        (r#"{"dtype":"BF16","shape":[3],"data_offsets":[0,4]}"#, "does not fit its 4 bytes"),
        (r#"{"dtype":"F4","shape":[7],"data_offsets":[0,4]}"#, "does not fit"),
        (r#"{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#, "does not fit"),
        (r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#, "more than 8 dimensions"),
        (r#"{"dtype":"U8","shape":[2],"data_offsets":[2,4]}"#, "bytes of no tensor"),
        (r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#, "end at byte"),
        (r#"{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}"#, "`dtype`: the header names it twice"),
        ("[]", "found no object"),
    ];
    for (entry, want) in cases {
        refused(&one(entry), 4, want);
    }
    refused(
        r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
        4,
        "tensor `b`: begins",
    );
    refused(
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
        4,
        "tensor `a`: the header names it twice",
    );
    refused("[]", 4, "found no object, expected the table");
    refused("{", 4, "header at byte 8");
    refused(&format!("{}1{}", "[".repeat(300), "]".repeat(300)), 0, "recursion limit");
    assert!(scan(b"1234").unwrap_err().message.contains("header length of 8"));
    assert!(scan(&200_000_000u64.to_le_bytes()).unwrap_err().message.contains("at most"));
    assert!(scan(&u64::MAX.to_le_bytes()).unwrap_err().message.contains("at most"));
    assert!(scan(&9u64.to_le_bytes()).unwrap_err().message.contains("the file has 8 bytes"));
    assert!(scan(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]).unwrap_err().message.contains("no UTF-8"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_never_panics_and_never_lies(edits in prop::collection::vec((0usize..300, any::<u8>()), 1..6), cut in 0usize..300) {
        let mut bytes = file(GOOD, 16);
        for (at, value) in edits {
            let n = bytes.len();
            bytes[at % n] = value;
        }
        bytes.truncate(bytes.len().max(cut) - cut.min(bytes.len()) / 8);
        if let Ok(tensors) = scan(&bytes) {
            let total: usize = tensors.iter().map(|t| t.bytes).sum();
            for t in &tensors {
                prop_assert!(t.offset + t.bytes <= bytes.len());
            }
            prop_assert!(total <= bytes.len());
        }
    }
}
