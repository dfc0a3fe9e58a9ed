//! Malformed containers, each with the words of its refusal.

use tealight::gguf::ValueType as Ty;

use crate::raw::{Raw, array, key, key_of_type, tensor, text};

/// A file and what the refusal must say.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub says: &'static str,
}

fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>, says: &'static str) -> Case {
    Case { name: name.into(), bytes: bytes.into(), says }
}

/// Every malformed container.
pub fn cases() -> Vec<Case> {
    [other_formats(), headers(), keys(), arrays(), tensors(), data()].into_iter().flatten().collect()
}

fn other_formats() -> Vec<Case> {
    let safetensors = [&64u64.to_le_bytes() as &[u8], br#"{"a":{"dtype":"F32","shape":[1]}}"#].concat();
    vec![
        case("no bytes", [], "the file is empty"),
        case("4 bytes", *b"GGUF", "header at byte 4: the file ends here: found 0 bytes, expected 4"),
        case("3 bytes", *b"GGU", "a file of less than 4 bytes"),
        case(
            "23 bytes",
            &Raw::empty().build()[..23],
            "header at byte 16: the file ends here: found 7 bytes, expected 8",
        ),
        case("wrong magic", *b"GGUE\x03\0\0\0                ", "expected the magic `GGUF`"),
        case("web page", *b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page (HTML)"),
        case("server error in JSON", *b"{\"error\":\"Unauthorized\"}", "a JSON text"),
        case("LFS pointer", *b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer"),
        case("zip", *b"PK\x03\x04\x00\x00\x00\x00\x00\x00", "a zip archive"),
        case("pickle", *b"\x80\x02}q\x00(X\x05\x00\x00\x00", "a Python pickle"),
        case("gzip", *b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "a compressed file"),
        case("zstd", *b"\x28\xb5\x2f\xfd\x00\x00\x00\x00", "a compressed file"),
        case("safetensors", safetensors, "a safetensors file"),
        case("ggml", *b"lmgg\x01\0\0\0", "the old format ggml"),
        case("ggmf", *b"fmgg\x01\0\0\0", "the old format ggmf"),
        case("ggjt", *b"tjgg\x03\0\0\0", "the old format ggjt"),
        case("ggla", *b"algg\x01\0\0\0", "an adapter of the old format ggla"),
        case("zeros", [0; 8192], "only zeros"),
        case("text", *b"hello, this is no model", "other bytes"),
        case("magic swapped", *b"FUGG\0\0\0\x03                ", "found a big-endian file"),
    ]
}

fn headers() -> Vec<Case> {
    let version = |version| Raw { version, ..Raw::valid() }.build();
    let counts = |n_tensor, n_key| Raw { n_tensor, n_key, ..Raw::valid() }.build();
    vec![
        case("version 0", version(0), "header at byte 4: found version 0, expected 2 or 3"),
        case("version 1", version(1), "found version 1, expected 2 or 3"),
        case("version 4", version(4), "found version 4, expected 2 or 3"),
        case("byte-swapped", version(3u32.swap_bytes()), "found a big-endian file, expected little-endian"),
        case("byte-swapped version 2", version(2u32.swap_bytes()), "found a big-endian file"),
        case(
            "tensor count 2^64-1",
            counts(Some(u64::MAX), None),
            "header at byte 8: found a count of 18446744073709551615 tensors",
        ),
        case(
            "key count 2^64-1",
            counts(None, Some(u64::MAX)),
            "header at byte 16: found a count of 18446744073709551615 keys",
        ),
        case("tensor count 2^32", counts(Some(1 << 32), None), "found a count of 4294967296 tensors"),
        case("key count 2^32 + 3", counts(None, Some((1 << 32) + 3)), "found a count of 4294967299 keys"),
        case("key count one too many", counts(None, Some(4)), "tensor number 0 at byte 157: found a string"),
        case("key count one too few", counts(None, Some(2)), "tensor `a.texts` at byte"),
        case("tensor count one too many", counts(Some(3), None), "tensor number 2 at byte"),
    ]
}

fn keys() -> Vec<Case> {
    let with = |record: Vec<u8>| Raw::with_key(record).build();
    let alignment = |ty: Ty, value: &[u8]| with(key(b"general.alignment", ty, value));
    let length = |len: u64| {
        let record = [&text(b"long")[..], &Ty::Str.id().to_le_bytes(), &len.to_le_bytes(), b"abc"].concat();
        with(record)
    };
    let name_length = |len: u64| with([&len.to_le_bytes() as &[u8], &[b'k'; 24]].concat());
    let mut cases = vec![
        case("key length 2^64-1", name_length(u64::MAX), "key number 3 at byte"),
        case("key length 2^63", name_length(1 << 63), "found a string of 9223372036854775808 bytes"),
        case("empty key", with(key(b"", Ty::U8, &[1])), "found a name of 0 bytes, expected 1 to 65535"),
        case(
            "endless key",
            with(key(&[b'k'; 65_536], Ty::U8, &[1])),
            "found a name of 65536 bytes, expected 1 to 65535",
        ),
        case("key not UTF-8", with(key(b"k\xff", Ty::U8, &[1])), "found a name that is not UTF-8"),
        case("key twice", with(key(b"a.count", Ty::U32, &7u32.to_le_bytes())), "key `a.count` at byte"),
        case("key twice, other value", with(key(b"a.count", Ty::Bool, &[0])), "found the name a second time"),
        case("value type 13", with(key_of_type(b"k", 13, &[0; 16])), "key `k` at byte"),
        case("value type 77", with(key_of_type(b"k", 77, &[0; 16])), "found value type 77, expected 0 to 12"),
        case("value type 2^32-1", with(key_of_type(b"k", u32::MAX, &[0; 16])), "found value type 4294967295"),
        case("string length 2^40", length(1 << 40), "key `long` at byte"),
        case("string length 2^63", length(1 << 63), "found a string of 9223372036854775808 bytes"),
        case("string length 2^64-1", length(u64::MAX), "found a string of 18446744073709551615 bytes"),
        case("string length of the file", length(Raw::valid().build().len() as u64), "key `long` at byte"),
        case("alignment of type i32", alignment(Ty::I32, &32i32.to_le_bytes()), "found type i32, expected u32"),
        case("alignment of type string", alignment(Ty::Str, &text(b"32")), "found type str, expected u32"),
        case(
            "alignment u64 of 2^33",
            alignment(Ty::U64, &(1u64 << 33).to_le_bytes()),
            "found 8589934592, expected a power of two",
        ),
    ];
    for n in [0u32, 3, 13, 33, 1 << 21, 1 << 31, u32::MAX] {
        let says = "expected a power of two from 1 to 1048576";
        cases.push(case(format!("alignment {n}"), alignment(Ty::U32, &n.to_le_bytes()), says));
    }
    for (name, says) in
        [("k\x1b]0;x\x07", "key `k\\u{1b}]0;x\\u{7}` at byte"), ("k\u{202e}", "key `k\\u{202e}` at byte")]
    {
        cases.push(case(format!("escape {says}"), with(key_of_type(name.as_bytes(), 13, &[])), says));
    }
    cases
}

fn arrays() -> Vec<Case> {
    let with = |value: Vec<u8>| Raw::with_key(key(b"arr", Ty::Array, &value)).build();
    let unknown = [&13u32.to_le_bytes() as &[u8], &1u64.to_le_bytes(), &[0; 8]].concat();
    // Each level holds one array; the innermost level is missing.
    let nested = |depth: usize| with(array(Ty::Array, 1, &[]).repeat(depth));
    vec![
        case("array of unknown type", with(unknown), "found value type 13, expected 0 to 12"),
        case(
            "array of 2^63 u64",
            with(array(Ty::U64, 1 << 63, &[0; 16])),
            "found an array of 9223372036854775808 values of type u64",
        ),
        case(
            "array whose bytes wrap to 8",
            with(array(Ty::U64, (1 << 61) + 1, &[0; 8])),
            "found an array of 2305843009213693953 values",
        ),
        case("array of 2^64-1 bytes", with(array(Ty::U8, u64::MAX, &[0; 8])), "key `arr` at byte"),
        case(
            "array of 2^40 strings",
            with(array(Ty::Str, 1 << 40, &text(b"x"))),
            "values of type str, expected at most",
        ),
        case(
            "array of 2^62 arrays",
            with(array(Ty::Array, 1 << 62, &array(Ty::U8, 0, &[]))),
            "values of type array, expected at most",
        ),
        case(
            "a string of an array ends behind the file",
            with(array(Ty::Str, 1, &[0xff; 8])),
            "found a string of 18446744073709551615 bytes",
        ),
        case("arrays nested 5 deep", nested(5), "found arrays nested deeper, expected at most 4 levels"),
        case("arrays nested 100,000 deep", nested(100_000), "found arrays nested deeper"),
    ]
}

fn tensors() -> Vec<Case> {
    let with = |records: &[Vec<u8>]| Raw::with_tensors(records).build();
    let one = |name: &[u8], ne: &[u64], ty, offset| with(&[tensor(name, ne, ty, offset)]);
    let shape = |ne: &[u64]| one(b"t", ne, 0, 0);
    let name = |name: &[u8]| one(name, &[8], 0, 0);
    let many_dims = [&text(b"t")[..], &u32::MAX.to_le_bytes(), &[0; 64]].concat();
    let mut cases = vec![
        case("empty tensor name", name(b""), "tensor number 0 at byte 24: found a name of 0 bytes, expected 1 to 255"),
        case("tensor name of 256 bytes", name(&[b'n'; 256]), "found a name of 256 bytes, expected 1 to 255"),
        case("tensor name with NUL", name(b"a\0b"), "found a control character in the name"),
        case("tensor name with escape", name(b"a\x1b[2J"), "tensor `a\\u{1b}[2J` at byte"),
        case("tensor name not UTF-8", name(b"a\xc3\x28"), "found a name that is not UTF-8"),
        case("tensor name twice", with(&[tensor(b"t", &[8], 0, 0), tensor(b"t", &[8], 0, 32)]), "tensor `t` at byte"),
        case("no dimensions", one(b"t", &[], 0, 0), "found 0 dimensions, expected 1 to 4"),
        case("5 dimensions", shape(&[1, 1, 1, 1, 1]), "found 5 dimensions, expected 1 to 4"),
        case("2^32-1 dimensions", with(&[many_dims]), "found 4294967295 dimensions, expected 1 to 4"),
        case("dimension -1", shape(&[8, u64::MAX]), "found dimensions [8, 18446744073709551615] (innermost first)"),
        case("dimension -1 beside 0", shape(&[0, u64::MAX]), "expected a size below 2^63 bytes"),
        case("elements wrap to 0", shape(&[1 << 32, 1 << 32]), "expected a size below 2^63 bytes"),
        case("elements 2^63", one(b"t", &[1 << 32, 1 << 31], 41, 0), "expected a size below 2^63 bytes"),
        case("bytes wrap to 0", shape(&[1 << 31, 1 << 31]), "expected a size below 2^63 bytes"),
        case("padded bytes wrap to 0", one(b"t", &[(1 << 63) - 1], 24, 0), "tensor `t` at byte"),
        case(
            "offset 2^64-1",
            one(b"t", &[8], 0, u64::MAX),
            "found offset 18446744073709551615, expected a multiple of 32",
        ),
        case("offset wraps", one(b"t", &[8], 0, u64::MAX - 31), "ends at byte 18446744073709551615, the file has"),
        case("offset unaligned", one(b"t", &[8], 0, 4), "found offset 4, expected a multiple of 32"),
        case(
            "offset behind the end",
            one(b"t", &[8], 0, 1 << 20),
            "tensor `t` at byte 49: ends at byte 1048672, the file has 192 bytes",
        ),
        case("overlap", with(&[tensor(b"t", &[16], 0, 0), tensor(b"u", &[8], 0, 32)]), "tensor `u` at byte"),
        case("same data", with(&[tensor(b"t", &[8], 0, 0), tensor(b"u", &[8], 0, 0)]), "shares bytes with tensor"),
        case(
            "overlap of first and last",
            with(&[tensor(b"t", &[32], 0, 0), tensor(b"u", &[0], 0, 64), tensor(b"v", &[8], 0, 96)]),
            "tensor `v` at byte",
        ),
        case(
            "two tensors of 2^63-64 bytes",
            with(&[tensor(b"t", &[(1 << 63) - 64], 24, 0), tensor(b"u", &[(1 << 63) - 64], 24, (1 << 63) - 64)]),
            "tensor `t` at byte",
        ),
        case(
            "row of 33 in Q4_0",
            one(b"t", &[33], 2, 0),
            "found rows of 33 elements, expected a multiple of 32 for Q4_0",
        ),
        case(
            "row of 128 in Q4_K",
            one(b"t", &[128], 12, 0),
            "found rows of 128 elements, expected a multiple of 256 for Q4_K",
        ),
    ];
    for ty in [4, 5, 31, 32, 33] {
        cases.push(case(
            format!("removed type {ty}"),
            one(b"t", &[32], ty, 0),
            "was removed from ggml: quantize the model again as Q4_0",
        ));
    }
    for ty in [36, 37, 38] {
        cases.push(case(format!("removed type {ty}"), one(b"t", &[32], ty, 0), "quantize the model again as IQ4_NL"));
    }
    for ty in [43, 97, 200, u32::MAX] {
        cases.push(case(format!("type {ty}"), one(b"t", &[32], ty, 0), "tensor `t` at byte 45: unknown tensor type"));
    }
    cases
}

fn data() -> Vec<Case> {
    let aligned = |n: u32, raw: Raw| {
        let mut keys = raw.keys.clone();
        keys.push(key(b"general.alignment", Ty::U32, &n.to_le_bytes()));
        Raw { keys, padding: n as usize, ..raw }
    };
    let valid = Raw::valid().build();
    vec![
        case("one byte short", &valid[..valid.len() - 1], "tensor `a` at byte"),
        case("no data", Raw { data: vec![], ..Raw::valid() }.build(), "tensor `b` at byte"),
        case(
            "laid at 32, 64 declared",
            aligned(64, Raw::valid()).build(),
            "found offset 96, expected a multiple of 64",
        ),
        case("laid at 1, 32 declared", one_byte_layout(), "found offset 1, expected a multiple of 32"),
        case(
            "declared 4096, laid at 32",
            Raw { padding: 32, ..aligned(4096, Raw::with_tensors(&[tensor(b"t", &[8], 0, 0)])) }.build(),
            "tensor `t` at byte",
        ),
    ]
}

fn one_byte_layout() -> Vec<u8> {
    let tensors = vec![tensor(b"t", &[1], 24, 0), tensor(b"u", &[4], 24, 1)];
    Raw { tensors, padding: 1, data: vec![0; 64], ..Raw::empty() }.build()
}
