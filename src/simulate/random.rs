//! Streams of random numbers: one for each purpose, so that none of them depends on another.

use fastrand::Rng;

/// The purpose of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The claims of a shape.
    Claims,
    /// The claims of a file that are kept, and their places in a minute or second.
    File,
    /// The times of refills.
    Refills,
    /// The times of cold starts.
    ColdStarts,
}

/// The stream for a purpose. Seeds that differ in one bit give unrelated streams (the finalizer of SplitMix64).
pub(crate) fn stream(seed: u64, purpose: Purpose) -> Rng {
    let salt: u64 = match purpose {
        Purpose::Claims => 0xd1b5_4a32_d192_ed03,
        Purpose::File => 0x8cb9_2ba7_2f3d_8dd7,
        Purpose::Refills => 0xabc9_8388_fb8f_ac03,
        Purpose::ColdStarts => 0x61c8_8646_80b5_83eb,
    };
    let mut mixed = seed.wrapping_add(salt);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Rng::with_seed(mixed ^ (mixed >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Refill;
    use crate::shapes::{Shape, generate};

    #[test]
    fn refills_do_not_depend_on_the_gaps_between_claims() {
        let refill = Refill::Lognormal { median_seconds: 10.0, p99_seconds: 30.0 };
        let sigma = 3.0_f64.ln() / 2.326;
        for seed in 1..=3 {
            let trace = generate(Shape::Poisson, 14.0, 1, seed).unwrap();
            let gaps: Vec<u64> = trace.arrivals().windows(2).map(|pair| pair[1] - pair[0]).collect();
            for purpose in [Purpose::Refills, Purpose::ColdStarts, Purpose::File] {
                let mut random = stream(seed, purpose);
                let z: Vec<f64> =
                    gaps.iter().map(|_| (refill.sample(&mut random) as f64 / 10_000.0).ln() / sigma).collect();
                for lag in 0..3 {
                    let mut pairs: Vec<(u64, f64)> = gaps.iter().skip(lag).copied().zip(z.iter().copied()).collect();
                    pairs.sort_by_key(|(gap, _)| *gap);
                    for quartile in pairs.chunks(pairs.len() / 4) {
                        let mean = quartile.iter().map(|(_, z)| z).sum::<f64>() / quartile.len() as f64;
                        assert!(quartile.len() < 10 || mean.abs() < 0.08, "seed {seed} {purpose:?} lag {lag}: {mean}");
                    }
                }
            }
        }
    }
}
