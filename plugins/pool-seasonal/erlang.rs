//! The misses of a pool of a given size, and the size that is worth its idle hours.
//!
//! A claim that finds a Ready sandbox orders a replacement, and a claim that finds none starts cold and takes nothing from
//! the pool. This is Erlang's loss system: as many servers as the pool has members, and an order is a busy server. With a
//! load `a` of claims in a lead time, the share of misses is Erlang's B formula. It depends on the mean of the lead time
//! only, and not on its distribution.

/// The load from which the headroom grows with the square root of the load, in place of the recursion.
const LARGE: f64 = 500.0;
/// The levels of worth that [`worth`] chooses from. Each is a quarter of a power of two below the one before it.
const LEVELS: u32 = 140;

/// A level of worth, in claims a second that one more member must serve.
fn level(number: u32) -> f64 {
    (6.0 - f64::from(number) / 4.0).exp2()
}

/// The share of misses of a pool with one more member.
fn next(blocked: f64, load: f64, size: u32) -> f64 {
    let product = load * blocked;
    product / (f64::from(size) + 1.0 + product)
}

/// A pool without members: its size, and its share of misses.
const EMPTY: (u32, f64) = (0, 1.0);

/// A pool after it grew until its next member would serve fewer than `worth` of the claims, which are `rate` a second: its
/// size, and its share of misses.
fn grown((mut size, mut blocked): (u32, f64), rate: f64, load: f64, worth: f64) -> (u32, f64) {
    // No load up to LARGE needs as many.
    while size < 3 * LARGE as u32 {
        let after = next(blocked, load, size);
        if rate * (blocked - after) < worth {
            break;
        }
        (size, blocked) = (size + 1, after);
    }
    (size, blocked)
}

/// The smallest size whose next member would serve fewer than `worth` of the claims, which are `rate` a second.
pub(crate) fn size(rate: f64, load: f64, worth: f64) -> f64 {
    if load > LARGE {
        return load + (size(rate, LARGE, worth) - LARGE).max(0.0) * (load / LARGE).sqrt();
    }
    let (size, _) = grown(EMPTY, rate, load, worth);
    f64::from(size)
}

/// The worth at which a pool misses at most this share of the claims of all slots, whose rates are in claims a second.
///
/// One worth for all slots gives the fewest idle hours for the share of hits: the last member of each slot serves the same
/// number of claims. A busy hour therefore gets more headroom than a quiet night.
pub(crate) fn worth(rates: impl Iterator<Item = f64>, lead_seconds: f64, misses: f64) -> f64 {
    let mut missed = [0.0; LEVELS as usize];
    let mut claims = 0.0;
    for rate in rates {
        claims += rate;
        let load = rate * lead_seconds;
        if load > LARGE {
            // Too large to count: it gets the wanted share of misses at every level.
            missed.iter_mut().for_each(|sum| *sum += rate * misses);
            continue;
        }
        let (mut size, mut blocked) = EMPTY;
        for (number, sum) in (0..LEVELS).zip(&mut missed) {
            (size, blocked) = grown((size, blocked), rate, load, level(number));
            *sum += rate * blocked;
        }
    }
    let enough = (0..LEVELS).zip(&missed).find(|(_, sum)| **sum <= misses * claims * (1.0 + 1e-9));
    level(enough.map_or(LEVELS, |(number, _)| number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Erlang's B formula by its definition.
    fn erlang_b(size: u32, load: f64) -> f64 {
        let term = |n: u32| (1..=n).fold(1.0, |product, k| product * load / f64::from(k));
        term(size) / (0..=size).map(term).sum::<f64>()
    }

    #[test]
    fn recursion_is_erlangs_formula() {
        for load in [0.1, 1.0, 7.5] {
            let mut blocked = 1.0;
            for size in 0..12 {
                assert!((blocked - erlang_b(size, load)).abs() < 1e-12, "{load} {size}");
                blocked = next(blocked, load, size);
            }
        }
    }

    #[test]
    fn worth_gives_the_wanted_share_of_hits_with_fewer_members_than_one_share_for_all() {
        // A busy day and a quiet night.
        let rates: Vec<f64> = (0..48).map(|slot| if slot < 24 { 1.0 } else { 0.02 }).collect();
        let found = worth(rates.iter().copied(), 10.0, 0.01);
        let of = |size: fn(f64, f64) -> f64, at: f64| -> (f64, f64) {
            let sizes = rates.iter().map(|rate| (*rate, size(*rate, at)));
            sizes.fold((0.0, 0.0), |(members, missed), (rate, size)| {
                (members + size, missed + rate * erlang_b(size as u32, rate * 10.0))
            })
        };
        let claims: f64 = rates.iter().sum();
        let (members, missed) = of(|rate, worth| size(rate, rate * 10.0, worth), found);
        assert!(missed <= 0.01 * claims && missed > 0.003 * claims, "{missed} of {claims}");
        let (uniform, _) = of(|rate, _| (0..).find(|size| erlang_b(*size, rate * 10.0) <= 0.01).unwrap().into(), 0.0);
        assert!(members < uniform, "{members} {uniform}");
    }

    #[test]
    fn size_covers_the_load_and_grows_with_it() {
        let sizes = [0.0, 0.1, 1.0, 10.0, 100.0, 499.0, 501.0, 1e6].map(|load| size(load / 10.0, load, 1e-3));
        assert!(sizes.is_sorted() && sizes[0] < 0.5 && sizes[4] > 100.0, "{sizes:?}");
        assert!((sizes[6] - sizes[5]).abs() < 30.0, "{sizes:?}");
    }

    #[test]
    fn worth_of_nothing_is_defined() {
        assert!(worth(std::iter::empty(), 10.0, 0.01) > 0.0);
        assert!(worth([0.0, 0.0].into_iter(), 10.0, 0.01) > 0.0);
        assert!(worth([1e9, 1e-9].into_iter(), 86_400.0, 0.0001).is_finite());
    }
}
