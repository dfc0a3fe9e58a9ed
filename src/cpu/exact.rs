//! The plain computation of matrices: f32 activations, weights dequantized on the fly, f64 sums in a fixed order.

/// dot(w, x) in f64, summed in eight interleaved lanes and then across.
pub(super) fn dot(w: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0f64; 8];
    let (mut ws, mut xs) = (w.chunks_exact(8), x.chunks_exact(8));
    for (w, x) in (&mut ws).zip(&mut xs) {
        for i in 0..8 {
            lanes[i] += f64::from(w[i]) * f64::from(x[i]);
        }
    }
    let rest: f64 = ws.remainder().iter().zip(xs.remainder()).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
    (lanes.iter().sum::<f64>() + rest) as f32
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sum_is_exact_where_f32_would_lose_it() {
        let w: Vec<f32> = (0..19).map(|i| if i % 2 == 0 { 1e8 } else { -1e8 }).chain([1e8]).collect();
        let w: Vec<f32> = w.into_iter().map(|x| -x).chain([0.25]).collect();
        let x = vec![1.0; w.len()];
        let want: f64 = w.iter().map(|&x| f64::from(x)).sum();
        assert_eq!(super::dot(&w, &x), want as f32);
    }
}
