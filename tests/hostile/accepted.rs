//! Valid but unusual containers: they must be accepted and give the same as the plain file.

use tealight::gguf::{Gguf, GgufWriter, KeyValue, Value, ValueType as Ty};
use tealight::quant::BlockType;

use crate::raw::{Raw, array, folder, key, tensor, text};

/// The tensors that every variant must give, with their data.
const NAMES: [&str; 3] = ["blk.0.ffn_up.weight", "blk.0.attn_q.weight", "output_norm.weight"];

fn data_of(name: &str) -> Vec<u8> {
    match NAMES.iter().position(|n| *n == name) {
        Some(0) => (0..136).collect(),
        Some(1) => (100..168).collect(),
        _ => (0..16).collect(),
    }
}

fn declare(file: &mut GgufWriter, name: &str, padded_shape: bool) {
    let (ty, shape): (_, &[u64]) = match name {
        "blk.0.ffn_up.weight" => (BlockType::Q8_0, &[4, 32]),
        "blk.0.attn_q.weight" => (BlockType::Q8_0, &[2, 32]),
        _ => (BlockType::F32, &[4]),
    };
    let shape = if padded_shape { [vec![1; 4 - shape.len()], shape.to_vec()].concat() } else { shape.to_vec() };
    file.tensor(name, ty, &shape);
}

/// A file of the three tensors, in this order and otherwise as `change` makes it.
fn variant(names: &[&str], padded_shape: bool, change: impl Fn(&mut GgufWriter)) -> Vec<u8> {
    let mut file = GgufWriter::new();
    change(&mut file);
    names.iter().for_each(|name| declare(&mut file, name, padded_shape));
    let mut body = file.begin(Vec::new()).unwrap();
    names.iter().for_each(|name| body.write(&data_of(name)).unwrap());
    body.finish().unwrap()
}

fn aligned(alignment: u32) -> Vec<u8> {
    variant(&NAMES, false, |f| {
        f.alignment(alignment).key("general.architecture", "llama");
    })
}

fn architecture(file: &mut GgufWriter) {
    file.key("general.architecture", "llama");
}

/// Writes the tensors by hand with data at these offsets.
fn scattered(offsets: [u64; 3], len: usize) -> Vec<u8> {
    let (ne, ty) = ([vec![32, 4], vec![32, 2], vec![4]], [8, 8, 0]);
    let mut data = vec![0xee; len];
    for (name, at) in NAMES.iter().zip(offsets) {
        let at = usize::try_from(at).unwrap();
        let bytes = data_of(name);
        data[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    let tensors = (0..3).map(|i| tensor(NAMES[i].as_bytes(), &ne[i], ty[i], offsets[i])).collect();
    let keys = vec![key(b"general.architecture", Ty::Str, &text(b"llama"))];
    Raw { keys, tensors, data, ..Raw::empty() }.build()
}

fn odd_keys(file: &mut GgufWriter) {
    for ty in Ty::ALL {
        let zero = vec![0; ty.fixed_bytes().unwrap_or(if ty == Ty::Str { 8 } else { 12 })];
        file.raw_key(format!("odd.{ty}"), ty, zero);
        file.raw_key(format!("odd.empty.{ty}"), Ty::Array, array(ty, 0, &[]));
    }
    let inner = array(Ty::Str, 1, &text(b"deep"));
    let three = array(Ty::Array, 1, &array(Ty::Array, 2, &[inner.clone(), inner].concat()));
    file.raw_key("odd.nested", Ty::Array, three)
        .key("odd.nan", f32::NAN)
        .key("odd.bytes", KeyValue::Str(b"\xff\0\x1b".to_vec()))
        .key("general.name", "")
        .key("general.file_type", 9999u32)
        .key("general.architecture", "llama");
}

fn variants() -> Vec<(&'static str, Vec<u8>)> {
    let [a, b, c] = NAMES;
    let plain = variant(&NAMES, false, architecture);
    let unpadded = plain[..plain.len() - 16].to_vec();
    vec![
        ("trailing bytes", [&plain[..], &[7; 100]].concat()),
        ("no padding behind the last tensor", unpadded),
        ("plain", plain),
        ("alignment 1", aligned(1)),
        ("alignment 8", aligned(8)),
        ("alignment 64", aligned(64)),
        ("alignment 4096", aligned(4096)),
        ("alignment 65536", aligned(65_536)),
        ("alignment 2^20", aligned(1 << 20)),
        ("version 2", variant(&NAMES, false, |f| architecture(f.version(2)))),
        ("tensors reversed", variant(&[c, b, a], false, architecture)),
        ("tensors shuffled", variant(&[b, c, a], false, architecture)),
        ("data in another order than the table", scattered([96, 0, 256], 288)),
        ("gaps", scattered([4096, 32, 8192], 8224)),
        ("4-D", variant(&NAMES, true, architecture)),
        ("unknown keys of every type", variant(&NAMES, false, odd_keys)),
    ]
}

#[test]
fn unusual_containers_give_the_same_tensors_as_the_plain_one() {
    let path = folder("accepted").join("m.gguf");
    for (name, bytes) in variants() {
        std::fs::write(&path, bytes).unwrap();
        let model = Gguf::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.tensors().len(), 3, "{name}");
        for tensor in NAMES {
            let found = model.tensor(tensor).unwrap_or_else(|| panic!("{name}: no {tensor}"));
            assert_eq!(model.bytes(found), data_of(tensor), "{name}: {tensor}");
        }
        assert_eq!(model.metadata().str("general.architecture").unwrap(), Some("llama"), "{name}");
        let warned = !model.warnings().is_empty();
        assert_eq!(warned, matches!(name, "trailing bytes" | "alignment 1"), "{name}: {:?}", model.warnings());
    }
}

#[test]
fn a_header_alone_is_a_file() {
    let path = folder("header").join("m.gguf");
    std::fs::write(&path, Raw::empty().build()).unwrap();
    let model = Gguf::open(&path).unwrap();
    assert_eq!((model.tensors().len(), model.metadata().iter().count()), (0, 0));
}

#[test]
fn a_tensor_count_that_is_too_small_leaves_a_warning() {
    let layout = tealight::gguf::scan(&Raw { n_tensor: Some(1), ..Raw::valid() }.build()).unwrap();
    assert_eq!(layout.tensors.len(), 1);
    assert!(layout.warnings[0].contains("bytes behind the last tensor are not used"), "{:?}", layout.warnings);
}

#[test]
fn an_alignment_of_64_bits_is_tolerated() {
    let record = key(b"general.alignment", Ty::U64, &64u64.to_le_bytes());
    let raw = Raw { keys: vec![record], padding: 64, ..Raw::with_tensors(&[tensor(b"t", &[8], 0, 64)]) };
    assert_eq!(tealight::gguf::scan(&raw.build()).map(|l| l.alignment), Ok(64));
}

#[test]
fn a_dimension_of_0_has_no_bytes_and_needs_none() {
    for (name, ne) in [("row", vec![0u64]), ("rows", vec![32, 0]), ("middle", vec![32, 0, 7, 1])] {
        let bytes = Raw { data: vec![], ..Raw::with_tensors(&[tensor(b"t", &ne, 8, 0)]) }.build();
        let path = folder("zero").join("m.gguf");
        std::fs::write(&path, bytes).unwrap();
        let model = Gguf::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.bytes(&model.tensors()[0]), [0u8; 0], "{name}");
    }
}

#[test]
fn a_tensor_name_of_255_bytes_is_read() {
    let bytes = Raw::with_tensors(&[tensor(&[b'n'; 255], &[8], 0, 0)]).build();
    assert!(tealight::gguf::scan(&bytes).is_ok());
}

#[test]
fn a_bool_of_2_is_true_with_a_warning() {
    let path = folder("bool").join("m.gguf");
    std::fs::write(&path, Raw::with_key(key(b"flag", Ty::Bool, &[2])).build()).unwrap();
    let model = Gguf::open(&path).unwrap();
    assert_eq!(model.metadata().bool("flag").unwrap(), Some(true));
    assert!(model.warnings()[0].contains("key `flag`"), "{:?}", model.warnings());
}

#[test]
fn nested_arrays_are_read_to_the_depth_that_is_accepted() {
    let inner = array(Ty::U8, 2, &[1, 2]);
    let value = array(Ty::Array, 1, &array(Ty::Array, 1, &array(Ty::Array, 2, &[&inner[..], &inner].concat())));
    let path = folder("nested").join("m.gguf");
    std::fs::write(&path, Raw::with_key(key(b"deep", Ty::Array, &value)).build()).unwrap();
    let model = Gguf::open(&path).unwrap();
    let mut array = model.metadata().array("deep").unwrap().unwrap();
    for len in [1, 1, 2] {
        assert_eq!((array.len(), array.element()), (len, "array"));
        let Some(Value::Array(inner)) = array.values().last() else { panic!("no inner array") };
        array = inner;
    }
    assert_eq!(array.bytes(), Some(&[1u8, 2] as &[u8]));
}

#[test]
fn strings_inside_nested_arrays_know_their_place_in_the_file() {
    let inner = [array(Ty::Str, 1, &text(b"one")), array(Ty::Str, 2, &[text(b"two"), text(b"three")].concat())];
    let path = folder("places-of-strings").join("m.gguf");
    let value = array(Ty::Array, 2, &inner.concat());
    std::fs::write(&path, Raw::with_key(key(b"deep", Ty::Array, &value)).build()).unwrap();
    let model = Gguf::open(&path).unwrap();
    let array = model.metadata().array("deep").unwrap().unwrap();
    let mut texts = Vec::new();
    for value in array.values() {
        let Value::Array(inner) = value else { panic!("{value:?}") };
        for (at, text) in inner.strings_with_offsets().unwrap() {
            let at = usize::try_from(at).unwrap();
            assert_eq!(&model.metadata_bytes()[at..at + text.len()], text);
            texts.push(text);
        }
    }
    assert_eq!(texts, [b"one" as &[u8], b"two", b"three"]);
}

#[test]
fn integers_of_every_width_and_sign_are_one_number() {
    let mut file = GgufWriter::new();
    file.key("a", 7u8).key("b", 7i8).key("c", 7u16).key("d", 7i16).key("e", 7u32).key("f", 7i32);
    file.key("g", 7u64).key("h", 7i64).key("big", u64::MAX).key("small", -1i32).key("float", 7f32);
    let path = folder("integers").join("m.gguf");
    std::fs::write(&path, file.begin(Vec::new()).unwrap().finish().unwrap()).unwrap();
    let model = Gguf::open(&path).unwrap();
    let meta = model.metadata();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        assert_eq!((meta.u32(key).unwrap(), meta.i64(key).unwrap()), (Some(7), Some(7)), "{key}");
        assert_eq!((meta.u64(key).unwrap(), meta.f32(key).unwrap()), (Some(7), Some(7.0)), "{key}");
    }
    assert!(meta.u32("big").is_err() && meta.i64("big").is_err() && meta.u64("small").is_err());
    assert!(meta.u64("float").is_err() && meta.bool("a").is_err());
}
