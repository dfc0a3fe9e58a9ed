//! Plain reading: what no kernel that reads its weights from memory can beat.

use std::hint::black_box;

/// Ways to read every byte once, by loads of each width that the machine has: which of them is the fastest differs.
pub fn readers() -> Vec<fn(&[u8])> {
    #[allow(unused_mut, reason = "other CPUs have no other loads here")]
    let mut readers: Vec<fn(&[u8])> = vec![sum];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected.
            readers.push(|bytes| unsafe { read_avx2(bytes) });
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected.
            readers.push(|bytes| unsafe { read_avx512(bytes) });
        }
    }
    readers
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(bytes: &[u8]) {
    sum(bytes);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(bytes: &[u8]) {
    sum(bytes);
}

/// Sums words in 32 independent chains, which a compiler makes four of the widest vectors.
#[inline(always)]
fn sum(bytes: &[u8]) {
    let mut sums = [0u64; 32];
    let (lines, rest) = bytes.as_chunks::<256>();
    for line in lines {
        for (sum, &word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word));
        }
    }
    black_box(sums);
    black_box(rest.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
}
