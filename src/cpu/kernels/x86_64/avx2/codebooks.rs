//! Row products of the codebook and ternary formats with AVX2.

use super::super::codebooks::rows::codebook_rows;
use super::{dots, scaled, with_signs};

codebook_rows!("avx2,fma,f16c");
