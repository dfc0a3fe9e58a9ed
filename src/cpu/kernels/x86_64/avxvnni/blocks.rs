//! Row products of the formats of 4 to 8 bits with AVX-VNNI.

use super::super::blocks::block_rows;
use super::{dots, scaled};

block_rows!("avx2,fma,f16c,avxvnni");
