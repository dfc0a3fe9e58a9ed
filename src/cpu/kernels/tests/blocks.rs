//! Row products of every block format on blocks that are hard: extreme codes, odd addresses, the end of a page.

use super::super::codes::Coding;
use super::*;

fn coded() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.iter().copied().filter(|&ty| Coding::of(ty).is_some())
}

#[test]
fn extreme_blocks_and_activations_give_the_scalar_products() {
    for set in KernelSet::available() {
        for ty in coded() {
            let (n_row, n) = (5, 5 * ty.block_len());
            for fill in [0x00, 0x11, 0x55, 0x7f, 0x80, 0xaa, 0xee, 0xff] {
                let mut rows = vec![fill; n_row * 5 * ty.block_bytes()];
                // halves at both ends of a block, where scales lie, are finite; other bytes of scales may be any
                for block in rows.chunks_exact_mut(ty.block_bytes()) {
                    let last = block.len() - 1;
                    for at in [1, 3, last, last - 2] {
                        block[at] &= 0x3f;
                    }
                }
                for signs in [0, !0, 0x5555_5555, 0x0f0f_0f0f, 0xff00_ff00u32] {
                    let sign = |i: usize| if signs >> (i % 32) & 1 == 0 { 1.0 } else { -1.0 };
                    let x: Vec<f32> = (0..n).map(sign).collect();
                    let want = matvec(&KernelSet::SCALAR, ty, &rows, &x, n_row);
                    let got = matvec(&set, ty, &rows, &x, n_row);
                    let sizes = matvec_f64(ty, &rows, &x, n_row);
                    for ((got, want), (_, size)) in got.into_iter().zip(want).zip(sizes) {
                        let error = (f64::from(got) - f64::from(want)).abs();
                        let is_compared = want.is_finite() && size < 1e30;
                        // equal terms make sums that only grow: rounding errors of both collect
                        assert!(
                            !is_compared || error <= 2e-6 * size + 1e-30,
                            "{} {ty} of {fill:x}, signs {signs:x}: {got} vs {want} of {size}",
                            set.name()
                        );
                    }
                }
            }
        }
    }
}

/// Every code, one by one, in each place of a block: the elements before the place and after it are others'.
#[test]
fn every_byte_in_every_place_gives_the_scalar_product() {
    for ty in coded() {
        let mut random = Random(23 + u64::from(ty.id()));
        let n = 2 * ty.block_len().max(128);
        let row_bytes = n / ty.block_len() * ty.block_bytes();
        // a row for each byte value, which stands in one place of the row's first block
        for place in 0..ty.block_bytes() {
            let mut rows: Vec<u8> = random_rows(ty, 1, n, &mut random).repeat(256);
            for (byte, row) in rows.chunks_exact_mut(row_bytes).enumerate() {
                row[place] = byte as u8;
            }
            let x = random.units(n);
            let want = matvec(&KernelSet::SCALAR, ty, &rows, &x, 256);
            let sizes = matvec_f64(ty, &rows, &x, 256);
            for set in KernelSet::available() {
                let got = matvec(&set, ty, &rows, &x, 256);
                for ((got, want), (_, size)) in got.iter().zip(&want).zip(&sizes) {
                    let error = (f64::from(*got) - f64::from(*want)).abs();
                    let is_compared = want.is_finite() && *size < 1e30;
                    assert!(
                        !is_compared || error <= 1e-6 * size + 1e-30,
                        "{} {ty} byte {place}: {got} vs {want} of {size}",
                        set.name()
                    );
                }
            }
        }
    }
}

/// A mapping whose second page lies behind the end of its file, so that reading it is a fault.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_read_behind_the_last_block() {
    let path = std::env::temp_dir().join(format!("tealight-page-{}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let n_bytes = 64 << 10;
    file.set_len(n_bytes as u64).unwrap();
    // SAFETY: nobody else has the file, and what lies behind its end is never touched.
    let mut map = unsafe { memmap2::MmapOptions::new().len(n_bytes + (64 << 10)).map_mut(&file) }.unwrap();
    for ty in WEIGHTS {
        let mut random = Random(29);
        let block_len = ty.block_len();
        for n in [block_len, 2 * block_len, 3 * block_len, 5 * block_len, 9 * block_len] {
            let (rows, x) = (random_rows(ty, 3, n, &mut random), random.units(n));
            let at = n_bytes - rows.len();
            map[at..n_bytes].copy_from_slice(&rows);
            for set in KernelSet::available() {
                let want = matvec(&set, ty, &rows, &x, 3);
                assert_eq!(matvec(&set, ty, &map[at..n_bytes], &x, 3), want, "{} {ty} 3 x {n}", set.name());
            }
        }
    }
}
