//! AVX-512 VNNI: the primitives of [`codebook_rows`], and its kernels.

use super::super::codebooks::rows::codebook_rows;

codebook_rows!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c");

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn dots<const N: usize>(start: __m256i, u: [__m256i; N], s: [__m256i; N]) -> __m256i {
    u.into_iter().zip(s).fold(start, |sum, (u, s)| _mm256_dpbusd_epi32(sum, u, s))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scaled(acc: __m256i, u: __m256i, s: __m256i, scales: __m256i) -> __m256i {
    _mm256_dpwssd_epi32(acc, _mm256_maddubs_epi16(u, s), scales)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn with_signs(q: __m256i, signs: u32) -> __m256i {
    _mm256_mask_sub_epi8(q, signs, _mm256_setzero_si256(), q)
}
