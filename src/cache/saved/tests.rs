//! Whole files are read back; whatever is done to one is noticed.

use super::*;

fn made() -> Vec<u8> {
    let key =
        Key { model: 7, plan: u64::MAX - 3, types: (CacheType::F16, CacheType::Q8_0), kernels: "avx512".to_owned() };
    let (k, v) = ([1u8; 5000], [2u8; 300]);
    let rows = RowsOut { first: 3, n_slot: 64, n_row: 64, k: &k, v: &v };
    let mut file = Vec::new();
    let n = write(&mut file, &key, 4096, r#"{"messages":[]}"#, &[1, 2, 300_000], &[rows]).unwrap();
    assert_eq!(n, file.len() as u64);
    file
}

/// Puts the checksum of the head right after a change to it.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    let n = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let end = (HEAD_BYTES + n.min(1000) * ENTRY_BYTES).min(file.len());
    let sum = checksum(&[&file[..HEAD_BYTES - 8], &file[HEAD_BYTES..end]].concat());
    file[HEAD_BYTES - 8..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn what_is_written_is_read() {
    let file = made();
    let found = read(&file).unwrap();
    assert_eq!((found.tokens.as_slice(), found.n_ctx), (&[1, 2, 300_000][..], 4096));
    assert_eq!((found.text.as_str(), found.key.kernels.as_str()), (r#"{"messages":[]}"#, "avx512"));
    let rows = &found.caches[0];
    assert_eq!((rows.first, rows.n_slot, rows.n_row), (3, 64, 64));
    assert!(file[rows.k.clone()].iter().all(|b| *b == 1) && rows.k.len() == 5000);
    assert!(file[rows.v.clone()].iter().all(|b| *b == 2) && rows.v.len() == 300);
    assert!(rows.k.start.is_multiple_of(4096) && rows.v.start.is_multiple_of(4096));
    assert!(file_bytes(15, 3, [(5000, 300)].into_iter()) >= file.len() as u64);
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let file = made();
    for n in 0..file.len() {
        let error = read(&file[..n]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{n} bytes");
    }
    assert!(read(&[&file[..], b"x"].concat()).is_err());
}

#[test]
fn any_changed_bit_of_what_counts_is_noticed() {
    let file = made();
    let whole = read(&file).unwrap();
    let head = HEAD_BYTES + 5 * ENTRY_BYTES;
    let sections = [0..head + 15, head + 16..head + 40, whole.caches[0].k.clone(), whole.caches[0].v.clone()];
    for at in sections.into_iter().flatten() {
        for bit in 0..8 {
            let mut bad = file.clone();
            bad[at] ^= 1 << bit;
            assert!(read(&bad).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn foreign_files_and_versions_are_refused_by_name() {
    for (file, words) in [
        (b"".to_vec(), "not a saved session"),
        (b"GGUF\x03\0\0\0".repeat(40), "not a saved session"),
        (vec![0; 300], "not a saved session"),
        (MAGIC.to_vec(), "cut off"),
    ] {
        let text = read(&file).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    let with_version = |n: u32| {
        let mut file = made();
        file[8..12].copy_from_slice(&n.to_le_bytes());
        read(&resealed(file)).unwrap_err()
    };
    let newer = with_version(2);
    assert!(newer.to_string().contains("version 2") && newer.hint().unwrap().contains("newer"), "{newer}");
    assert!(with_version(0).to_string().contains("unknown version 0"));
}

#[test]
fn lying_numbers_are_refused_though_the_head_is_whole() {
    // Of each: a number's place and width, and what stands there instead.
    let entry = |i: usize, at: usize| HEAD_BYTES + i * ENTRY_BYTES + at;
    let lies: &[(usize, &[u8], &str)] = &[
        (12, &u32::MAX.to_le_bytes(), "sections"),
        (12, &4u32.to_le_bytes(), "sections"),
        (12, &16_383u32.to_le_bytes(), "cut off"),
        (16, &5u64.to_le_bytes(), "its head says 5"),
        (40, &77u32.to_le_bytes(), "unknown type 77"),
        (entry(1, 8), &u64::MAX.to_le_bytes(), "does not fit"),
        (entry(1, 16), &u64::MAX.to_le_bytes(), "does not fit"),
        (entry(3, 16), &(1u64 << 40).to_le_bytes(), "does not fit"),
        (entry(3, 8), &0u64.to_le_bytes(), "does not fit"),
        (entry(0, 0), &3u32.to_le_bytes(), "order"),
        (entry(4, 0), &9u32.to_le_bytes(), "order"),
    ];
    for (at, bytes, words) in lies {
        let mut file = made();
        file[*at..at + bytes.len()].copy_from_slice(bytes);
        let text = read(&resealed(file)).unwrap_err().to_string();
        assert!(text.contains(words), "byte {at}: {text}");
    }
}

#[test]
fn checksums_differ_for_lengths_and_places() {
    let mut seen = std::collections::HashSet::new();
    for n in 0..200 {
        assert!(seen.insert(checksum(&vec![0; n])), "{n} zeros");
    }
    for i in 0..200 {
        let mut bytes = [0; 200];
        bytes[i] = 1;
        assert!(seen.insert(checksum(&bytes)), "a one at {i}");
    }
}
