//! Whatever the bytes are: no panic, and what is accepted stays in bounds.

use proptest::prelude::*;
use proptest::sample::Index;
use tealight::gguf::{Gguf, GgufWriter, KeyValue, Layout, Value, scan};
use tealight::quant::BlockType;

use crate::raw::{Raw, folder};

/// What everybody behind the gate relies on.
fn check_layout(layout: &Layout, bytes: &[u8]) {
    assert!(matches!(layout.version, 2 | 3) && layout.alignment.is_power_of_two());
    for key in &layout.keys {
        assert!(std::str::from_utf8(&bytes[key.name.clone()]).is_ok_and(|name| !name.is_empty()));
        assert!(key.name.end <= key.value.start && key.value.end <= bytes.len());
    }
    let mut data: Vec<_> = layout.tensors.iter().map(|t| t.data.clone()).filter(|d| !d.is_empty()).collect();
    data.sort_by_key(|d| d.start);
    assert!(data.iter().all(|d| d.end <= bytes.len()) && data.windows(2).all(|w| w[0].end <= w[1].start));
    for tensor in &layout.tensors {
        let row = tensor.ty.row_bytes(tensor.ne[0]).unwrap();
        let size = tensor.ne[1..].iter().fold(row, |n, dim| n.checked_mul(*dim).unwrap());
        assert_eq!(tensor.data.len() as u64, size);
        assert!(size == 0 || (tensor.data.start as u64).is_multiple_of(layout.alignment));
        assert!(bytes[tensor.name.clone()].len() <= 255);
    }
}

/// Reads all metadata in every way.
fn walk(value: Value<'_>, depth: usize) {
    if let Value::Array(array) = value {
        assert!(depth < 4);
        assert_eq!(array.values().count(), array.len());
        array.values().for_each(|v| walk(v, depth + 1));
        for n in [
            array.strings().map(Iterator::count),
            array.floats().map(Iterator::count),
            array.bools().map(Iterator::count),
            array.bytes().map(<[u8]>::len),
        ] {
            assert!(n.is_none_or(|n| n == array.len()));
        }
        assert!(array.integers().is_none_or(|i| i.count() == array.len()));
    }
    assert!(!value.to_string().chars().any(char::is_control));
}

/// Scans `bytes`, and opens them as a file where the scan accepts them.
fn check(bytes: &[u8], path: &std::path::Path) {
    let Ok(layout) = scan(bytes) else { return };
    check_layout(&layout, bytes);
    std::fs::write(path, bytes).unwrap();
    let Ok(model) = Gguf::open(path) else { return };
    assert_eq!(model.tensors().len(), layout.tensors.len());
    for tensor in model.tensors() {
        assert_eq!(model.bytes(tensor).len() as u64, tensor.bytes);
    }
    let meta = model.metadata();
    for (key, value) in meta.iter() {
        walk(value, 0);
        let _ = (meta.str(key), meta.u64(key), meta.i64(key), meta.f32(key), meta.bool(key), meta.array(key));
    }
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Word(Index, u64),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let extremes =
        vec![0, 1, 2, 4, 9, 12, 13, 31, 32, 1 << 20, 1 << 31, 1 << 32, 1 << 61, 1 << 63, u64::MAX - 31, u64::MAX];
    let word = prop_oneof![proptest::sample::select(extremes), any::<u64>(), 0..300u64];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(i, b)| Change::Byte(i, b)),
        4 => (at(), word).prop_map(|(i, w)| Change::Word(i, w)),
        1 => (at(), 1..40usize).prop_map(|(i, n)| Change::Remove(i, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(i, b)| Change::Insert(i, b)),
        1 => (at(), 1..80usize).prop_map(|(i, n)| Change::Repeat(i, n)),
        1 => at().prop_map(Change::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let range = |i: &Index, n: usize, len: usize| i.index(len)..(i.index(len) + n).min(len);
    match change {
        Change::Byte(i, b) => *i.get_mut(bytes) = *b,
        Change::Word(i, w) => {
            let range = range(i, 8, bytes.len());
            let n = range.len();
            bytes[range].copy_from_slice(&w.to_le_bytes()[..n]);
        }
        Change::Remove(i, n) => drop(bytes.drain(range(i, *n, bytes.len()))),
        Change::Insert(i, new) => drop(bytes.splice(range(i, 0, bytes.len()), new.iter().copied())),
        Change::Repeat(i, n) => {
            let range = range(i, *n, bytes.len());
            let copy = bytes[range.clone()].to_vec();
            drop(bytes.splice(range.start..range.start, copy));
        }
        Change::Cut(i) => bytes.truncate(i.index(bytes.len())),
    }
}

/// A valid file with values of every type, nested arrays and several tensors.
fn rich() -> Vec<u8> {
    let mut file = GgufWriter::new();
    let items = vec![KeyValue::from(vec![1u16, 2]), KeyValue::strings(["a", "bc"])];
    file.key("general.architecture", "llama")
        .key("u8", 1u8)
        .key("i64", -5i64)
        .key("f32", 1.5f32)
        .key("bool", true)
        .key("texts", KeyValue::strings(["one", "", "three"]))
        .key("floats", vec![1.0f32, 2.0])
        .key("flags", vec![true, false, true])
        .key("nested", KeyValue::Array { element: tealight::gguf::ValueType::Array, items })
        .alignment(8);
    file.tensor("token_embd.weight", BlockType::Q4K, &[2, 256]).tensor("a", BlockType::F16, &[2, 3, 4]);
    file.tensor("b", BlockType::F32, &[0, 7]).tensor("c", BlockType::I8, &[1, 1, 1, 5]);
    let mut body = file.begin(Vec::new()).unwrap();
    for n in [288, 48, 5] {
        body.write(&vec![0x5a; n]).unwrap();
    }
    body.finish().unwrap()
}

fn value() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        any::<u8>().prop_map(KeyValue::from),
        any::<i16>().prop_map(KeyValue::from),
        any::<u64>().prop_map(KeyValue::from),
        any::<f32>().prop_map(KeyValue::from),
        any::<f64>().prop_map(KeyValue::from),
        any::<bool>().prop_map(KeyValue::from),
        any::<String>().prop_map(KeyValue::from),
        prop::collection::vec(any::<i32>(), 0..20).prop_map(KeyValue::from),
        prop::collection::vec(any::<String>(), 0..20).prop_map(KeyValue::strings),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_refused_or_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = scan(&bytes);
        let mut file = Raw { n_tensor: Some(1), n_key: Some(1), ..Raw::empty() }.build();
        file.extend(&bytes);
        if let Ok(layout) = scan(&file) {
            check_layout(&layout, &file);
        }
    }

    #[test]
    fn words_that_look_like_fields_are_refused_or_in_bounds(
        counts in (0..4u64, 0..4u64),
        words in prop::collection::vec(prop_oneof![0..14u64, Just(u64::MAX), any::<u64>()], 0..60),
    ) {
        let mut file = Raw { n_tensor: Some(counts.0), n_key: Some(counts.1), ..Raw::empty() }.build();
        // Fields are of 4 and 8 bytes: the low half alone now and then.
        file.extend(words.iter().flat_map(|w| w.to_le_bytes().into_iter().take(if w % 3 == 0 { 4 } else { 8 })));
        if let Ok(layout) = scan(&file) {
            check_layout(&layout, &file);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn a_changed_file_is_refused_or_in_bounds(rich_one: bool, changes in prop::collection::vec(change(), 1..4)) {
        let mut bytes = if rich_one { rich() } else { Raw::valid().build() };
        changes.iter().for_each(|c| apply(&mut bytes, c));
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("changed.gguf");
        check(&bytes, &path);
    }

    #[test]
    fn what_is_written_is_accepted_and_read_back(
        version in 2..=3u32,
        alignment in 0..14u32,
        values in prop::collection::vec(value(), 0..8),
        shapes in prop::collection::vec(prop::collection::vec(0..5u64, 1..=4), 0..6),
    ) {
        let mut file = GgufWriter::new();
        file.version(version).alignment(1 << alignment);
        for (i, value) in values.iter().enumerate() {
            file.key(format!("k{i}"), value.clone());
        }
        for (i, shape) in shapes.iter().enumerate() {
            file.tensor(format!("t{i}"), BlockType::I16, shape);
        }
        let mut body = file.begin(Vec::new()).unwrap();
        for shape in &shapes {
            body.write(&vec![1; 2 * usize::try_from(shape.iter().product::<u64>()).unwrap()]).unwrap();
        }
        let bytes = body.finish().unwrap();
        let layout = scan(&bytes).unwrap();
        check_layout(&layout, &bytes);
        prop_assert_eq!((layout.version, layout.alignment), (version, 1 << alignment));
        prop_assert_eq!(layout.tensors.len(), shapes.len());
        for (tensor, shape) in layout.tensors.iter().zip(&shapes) {
            let ne: Vec<u64> = shape.iter().rev().copied().collect();
            prop_assert_eq!(&tensor.ne, &ne);
        }
        for (key, value) in layout.keys.iter().zip(&values) {
            prop_assert_eq!(key.ty, value.ty());
        }
    }
}

#[test]
fn the_rich_file_is_valid_before_it_is_changed() {
    let bytes = rich();
    assert_eq!(scan(&bytes).map(|l| (l.tensors.len(), l.warnings.len())), Ok((4, 0)));
    check(&bytes, &folder("rich").join("m.gguf"));
}
