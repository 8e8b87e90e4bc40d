//! Helpers of the kernels' tests.

/// Reproducible values, about evenly spread over -1..1.
pub(crate) fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = u64::from(seed) * 7919 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Runs in pools of 1, 2 and 3 threads and insists on the same bits from each.
pub(crate) fn in_pools(run: impl Fn() -> Vec<f32> + Sync) -> Vec<f32> {
    let results: Vec<Vec<f32>> = [1, 2, 3]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts");
            pool.install(&run)
        })
        .into();
    for other in &results[1..] {
        assert!(other.iter().zip(&results[0]).all(|(a, b)| a.to_bits() == b.to_bits()), "threads change the result");
    }
    results.into_iter().next().expect("three results")
}
