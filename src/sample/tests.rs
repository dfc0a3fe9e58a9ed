//! The samplers against llama.cpp's results, and the chain's promises.
#![allow(clippy::excessive_precision)] // figures as they were recorded

use super::candidates::{Candidates, Storage};
use super::dry::Dry;
use super::mirostat::{AdaptiveP, MirostatState, draw};
use super::penalties::Penalties;
use super::rng::Mt19937;
use super::*;

const LOGITS: [f32; 12] = [2.0, -1.5, 0.25, 3.5, -0.75, 1.0, 3.25, -4.0, 0.0, 2.75, -2.25, 1.5];

/// A vocabulary of given pieces; a text is encoded as the longest pieces from its start on.
struct Pieces(Vec<&'static str>);

impl Tokens for Pieces {
    fn n_tokens(&self) -> u32 {
        self.0.len() as u32
    }

    fn piece(&self, id: u32) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.get(id as usize).map_or(b"", |p| p.as_bytes()))
    }

    fn encode(&self, text: &[u8]) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let fits = self.0.iter().enumerate().filter(|(_, p)| !p.is_empty() && rest.starts_with(p.as_bytes()));
            let Some((id, piece)) = fits.max_by_key(|(_, p)| p.len()) else { break };
            ids.push(id as u32);
            rest = &rest[piece.len()..];
        }
        ids
    }

    fn eog(&self) -> &[u32] {
        &[3, 6]
    }
}

fn no_pieces() -> Pieces {
    Pieces(vec![""; 12])
}

/// What is left after `f`: ids and logits, in order.
fn after(f: impl FnOnce(&mut Candidates<'_>)) -> Vec<(u32, f32)> {
    let (mut logits, mut storage) = (LOGITS, Storage::default());
    let mut c = Candidates::new(&mut logits, &mut storage);
    f(&mut c);
    c.list().iter().map(|c| (c.id, c.logit)).collect()
}

fn ids(f: impl FnOnce(&mut Candidates<'_>)) -> Vec<u32> {
    after(f).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn random_numbers_are_those_of_libstdcxx() {
    let mut rng = Mt19937::new(42);
    assert_eq!([rng.bits(), rng.bits(), rng.bits()], [1_608_637_542, 3_421_126_067, 4_083_286_876]);
    let mut rng = Mt19937::new(42);
    assert_eq!(
        [rng.f64(), rng.f64(), rng.f64()],
        [0.796_542_984_287_845_98, 0.183_434_787_893_368_48, 0.779_690_997_612_661_25]
    );
    let mut rng = Mt19937::new(42);
    assert_eq!([rng.f32(), rng.f32()], [0.374_540_12, 0.796_543_002]);
    // the ten thousandth output for the default seed is given by the C++ standard
    let mut rng = Mt19937::new(5489);
    assert_eq!((0..10_000).map(|_| rng.bits()).last(), Some(4_123_659_995));
}

#[test]
fn filters_keep_what_llama_cpp_keeps() {
    assert_eq!(ids(|c| filters::top_k(c, 5)), [3, 6, 9, 0, 11]);
    assert_eq!(ids(|c| filters::top_k(c, 0)).len(), 12);
    assert_eq!(ids(|c| filters::top_p(c, 0.8, 0)), [3, 6, 9]);
    assert_eq!(ids(|c| filters::top_p(c, 0.1, 3)), [3, 6, 9]);
    assert_eq!(ids(|c| filters::min_p(c, 0.2, 0)), [0, 3, 6, 9]);
    assert_eq!(ids(|c| filters::min_p(c, 0.99, 4)), [3, 6, 9, 0]);
    assert_eq!(ids(|c| filters::typ_p(c, 0.5, 0)), [9, 6, 3]);
    let sigma = after(|c| filters::top_n_sigma(c, 1.0));
    assert_eq!(sigma.len(), 12);
    let finite: Vec<u32> = sigma.iter().filter(|(_, l)| l.is_finite()).map(|&(id, _)| id).collect();
    assert_eq!(finite, [0, 3, 6, 9, 11]);
    assert_eq!(ids(|c| filters::xtc(c, 1.0, 0.1, 0, &mut Mt19937::new(42))), [9, 0, 11, 5, 2, 8, 4, 1, 10, 7]);
    assert_eq!(ids(|c| filters::xtc(c, 0.3, 0.1, 0, &mut Mt19937::new(42))).len(), 12);
}

#[test]
fn filters_leave_impossible_tokens_out_of_entropies() {
    let lowest = |c: &mut Candidates<'_>| c.change_all(|c| if c.logit < 1.2 { f32::NEG_INFINITY } else { c.logit });
    let kept = ids(|c| {
        lowest(c);
        filters::typ_p(c, 0.5, 0);
    });
    assert_eq!(kept, [6, 9, 3]);
}

#[test]
fn temperatures_scale_as_in_llama_cpp() {
    assert_eq!(after(|c| filters::temperature(c, 0.8))[..2], [(0, 2.5), (1, -1.875)]);
    let greedy = after(|c| filters::temperature(c, 0.0));
    assert!(greedy.iter().all(|&(id, l)| if id == 3 { l == 3.5 } else { l == f32::NEG_INFINITY }));
    let dynamic = after(|c| filters::dynamic_temperature(c, 0.8, 0.5, 1.5));
    assert_eq!(dynamic[0].0, 3);
    assert!((dynamic[0].1 - 4.191_659_45).abs() < 1e-6);
    for (id, l) in dynamic {
        assert!((l - LOGITS[id as usize] * 1.197_616_9).abs() < 1e-6);
    }
}

#[test]
fn a_tiny_temperature_chooses_the_likeliest() {
    for temp in [1e-30, 1e-37, 1e-38, 1e-40, f32::from_bits(1)] {
        for samplers in [&[SamplerName::Temperature][..], &SamplerName::DEFAULT] {
            for shift in [0.0, -10.0, 1e30] {
                let samplers = samplers.to_vec();
                let options = SampleOptions { seed: 3, temp, samplers, ..SampleOptions::default() };
                let mut sampler = Sampler::new(&options, &no_pieces());
                let mut logits = LOGITS.map(|l| l + shift);
                // at the greatest shift all are equal but one
                logits[3] = logits[3].max(logits[0] * 1.5);
                for _ in 0..10 {
                    assert_eq!(sampler.sample(&mut logits.clone()), 3, "{temp:e} {shift}");
                }
            }
        }
    }
    // of two that are equally likely either is chosen
    let options =
        SampleOptions { seed: 3, temp: 1e-40, samplers: vec![SamplerName::Temperature], ..Default::default() };
    let mut sampler = Sampler::new(&options, &no_pieces());
    let drawn: Vec<u32> = (0..50).map(|_| sampler.sample(&mut [1.0, 2.0, -3.0, 2.0])).collect();
    assert!(drawn.contains(&1) && drawn.contains(&3) && drawn.iter().all(|id| [1, 3].contains(id)), "{drawn:?}");
}

#[test]
fn a_penalty_that_overflows_leaves_a_choice() {
    let options = SampleOptions { seed: 3, repeat_penalty: 1e-40, ..SampleOptions::default() };
    let mut sampler = Sampler::new(&options, &no_pieces());
    sampler.accept(9);
    assert!((0..10).all(|_| sampler.sample(&mut LOGITS.clone()) == 9));
}

#[test]
fn options_out_of_range_are_named() {
    assert!(SampleOptions::default().check().is_ok());
    type Change = fn(&mut SampleOptions);
    let wrong: [(&str, Change); 6] = [
        ("`repeat_penalty` is 0,", |o| o.repeat_penalty = 0.0),
        ("`repeat_penalty` is -1,", |o| o.repeat_penalty = -1.0),
        ("`repeat_last_n` is -2,", |o| o.repeat_last_n = -2),
        ("`temp` is NaN,", |o| o.temp = f32::NAN),
        ("`adaptive_decay` is inf,", |o| o.adaptive_decay = f32::INFINITY),
        ("`logit_bias` is inf,", |o| o.logit_bias = vec![(1, f32::NEG_INFINITY), (2, f32::INFINITY)]),
    ];
    for (words, change) in wrong {
        let mut options = SampleOptions::default();
        change(&mut options);
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Usage);
        assert!(error.to_string().contains(words), "{error}");
    }
    let allowed = SampleOptions { repeat_last_n: -1, logit_bias: vec![(1, f32::NEG_INFINITY)], ..Default::default() };
    assert!(allowed.check().is_ok());
}

#[test]
fn penalties_look_at_the_window_only() {
    let mut penalties = Penalties::new(1.3, 0.1, 0.2);
    let history = [0, 3, 3, 6, 1, 6];
    for (i, id) in history.into_iter().enumerate() {
        penalties.accept(id, i.checked_sub(4).map(|i| history[i]));
    }
    let mut want = LOGITS;
    (want[1], want[3], want[6]) = (-2.25, 2.392_307_76, 2.099_999_9);
    let got = after(|c| penalties.apply(c));
    assert_eq!(got.iter().map(|&(_, l)| l).collect::<Vec<_>>(), want);
    // the same where the candidates are a list
    let of_list = ids(|c| {
        filters::top_k(c, 12);
        penalties.apply(c);
        c.sort();
    });
    assert_eq!(of_list[..4], [9, 3, 6, 0]);
}

#[test]
fn dry_penalises_what_would_go_on_repeating() {
    let dry = || Dry::new(1.0, 1.75, 2, 64, &[], &no_pieces()).unwrap();
    let changed = |history: &[u32], mut dry: Dry| -> Vec<(u32, f32)> {
        let got = after(|c| dry.apply(c, history));
        got.into_iter().filter(|&(id, l)| l != LOGITS[id as usize]).collect()
    };
    assert_eq!(changed(&[1, 2, 3, 4, 5, 1, 2, 3], dry()), [(4, -2.5)]);
    assert_eq!(changed(&[1, 2, 3, 3, 2, 3, 9, 1, 2, 3], dry()), [(3, 1.75), (9, 1.75)]);
    assert!(changed(&[1, 2], dry()).is_empty());
    // a window that holds one of the two
    let short = Dry::new(1.0, 1.75, 2, 4, &[], &no_pieces()).unwrap();
    assert!(changed(&[1, 2, 3, 4, 5, 1, 2, 3], short).is_empty());
    assert!(Dry::new(0.0, 1.75, 2, 64, &[], &no_pieces()).is_none());
    // a long repetition stops growing before it is infinite
    let long = changed(&[7; 64], Dry::new(1e-30, 10.0, 2, 64, &[], &no_pieces()).unwrap());
    assert_eq!(long.len(), 1);
    assert!(long[0].1 < -1e7 && long[0].1.is_finite());
}

#[test]
fn dry_sees_no_repetition_across_a_breaker() {
    let pieces = || Pieces(vec!["a", "b", "c", "d", "x\n", "\n", "stop", "st", "op", "now", "w", "e"]);
    let changed = |breaker: &str, history: &[u32]| -> Vec<u32> {
        let mut dry = Dry::new(1.0, 1.75, 2, 64, &[breaker.to_owned()], &pieces()).unwrap();
        let got = after(|c| dry.apply(c, history));
        got.into_iter().filter(|&(id, l)| l != LOGITS[id as usize]).map(|(id, _)| id).collect()
    };
    let history = [0, 1, 4, 2, 3, 0, 1, 4];
    assert_eq!(changed("zz", &history), [2]);
    // token 4 holds the breaker
    assert!(changed("\n", &history).is_empty());
    // what would go on is the breaker itself
    assert!(changed("\n", &[0, 1, 2, 5, 3, 0, 1, 2]).is_empty());
    assert_eq!(changed("zz", &[0, 1, 2, 5, 3, 0, 1, 2]), [5]);
    // a breaker of two tokens: behind it two tokens repeat, with it more
    let history = [0, 7, 8, 1, 2, 3, 0, 7, 8, 1, 2];
    assert_eq!(changed("stop", &history), [3]);
    assert!(changed("stop", &history[..10]).is_empty());
    assert_eq!(changed("zz", &history[..10]), [2]);
}

#[test]
fn draws_are_those_of_llama_cpp() {
    let draws = |choose: &mut dyn FnMut(&mut Candidates<'_>) -> usize| -> Vec<u32> {
        let mut storage = Storage::default();
        let one = |_| {
            let mut logits = LOGITS;
            let mut c = Candidates::new(&mut logits, &mut storage);
            let chosen = choose(&mut c);
            c.list()[chosen].id
        };
        (0..24).map(one).collect()
    };
    let mut rng = Mt19937::new(42);
    assert_eq!(
        draws(&mut |c| draw(c, &mut rng)),
        [9, 3, 8, 6, 3, 3, 4, 3, 3, 6, 0, 6, 9, 0, 11, 6, 6, 0, 0, 6, 3, 0, 11, 3]
    );
    let mut rng = Mt19937::new(1234);
    assert_eq!(
        draws(&mut |c| draw(c, &mut rng)),
        [6, 9, 6, 8, 9, 3, 3, 9, 3, 3, 0, 5, 3, 9, 3, 0, 3, 0, 3, 3, 6, 9, 11, 3]
    );
    let mut mirostat = MirostatState::new(2.0, 0.1, 42);
    assert_eq!(
        draws(&mut |c| mirostat.v1(c, 12)),
        [9, 3, 9, 6, 6, 3, 6, 3, 3, 6, 3, 9, 0, 3, 11, 6, 6, 3, 3, 6, 6, 3, 11, 3]
    );
    let mut mirostat = MirostatState::new(2.0, 0.1, 42);
    assert_eq!(
        draws(&mut |c| mirostat.v2(c)),
        [9, 3, 9, 6, 6, 3, 6, 3, 3, 6, 3, 9, 0, 3, 0, 6, 6, 3, 3, 6, 6, 3, 11, 3]
    );
    let mut adaptive = AdaptiveP::new(0.2, 0.9, 42);
    let drawn = draws(&mut |c| {
        let chosen = adaptive.choose(c);
        let id = c.list()[chosen].id;
        adaptive.accept(id);
        chosen
    });
    assert_eq!(drawn, [9, 3, 9, 9, 6, 0, 6, 6, 1, 9, 0, 9, 10, 0, 11, 6, 6, 0, 0, 6, 6, 0, 11, 3]);
}

#[test]
fn every_recorded_case_is_met() {
    let shared = std::env::var_os("TEALIGHT_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), Into::into);
    let Ok(text) = std::fs::read(shared.join("fixtures/sampler-vectors.json")) else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: recorded cases of samplers: no fixtures");
        }
        return;
    };
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let name = case["sampler"].as_str().unwrap();
        let number = |key: &str| case["params"][key].as_f64().unwrap_or_default() as f32;
        let min_keep = number("min_keep") as usize;
        let seed = number("seed") as u32;
        let history: Vec<u32> =
            case["history"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        if let Some(draws) = case["draws"].as_array() {
            let mut options = SampleOptions { seed, samplers: Vec::new(), ..SampleOptions::default() };
            (options.temp, options.mirostat_tau, options.mirostat_eta) = (1.0, number("tau"), number("eta"));
            match name {
                "dist" => {}
                "mirostat" => options.mirostat = Mirostat::V1,
                "mirostat_v2" => options.mirostat = Mirostat::V2,
                "adaptive_p" => {
                    options.samplers.push(SamplerName::AdaptiveP);
                    (options.adaptive_target, options.adaptive_decay) = (number("target"), number("decay"));
                }
                _ => panic!("unknown case {name}"),
            }
            let mut sampler = Sampler::new(&options, &no_pieces());
            for (i, want) in draws.iter().enumerate() {
                let id = sampler.sample(&mut LOGITS.clone());
                sampler.accept(id);
                assert_eq!(u64::from(id), want.as_u64().unwrap(), "{name} draw {i}");
            }
            continue;
        }
        let got = after(|c| match name {
            "top_k" => filters::top_k(c, number("k") as i32),
            "top_p" => filters::top_p(c, number("p"), min_keep),
            "min_p" => filters::min_p(c, number("p"), min_keep),
            "typ_p" => filters::typ_p(c, number("p"), min_keep),
            "top_n_sigma" => filters::top_n_sigma(c, number("n")),
            "temperature" => {
                filters::dynamic_temperature(c, number("temp"), number("dynatemp_range"), number("dynatemp_exp"));
            }
            "xtc" => filters::xtc(c, number("probability"), number("threshold"), min_keep, &mut Mt19937::new(seed)),
            "penalties" => {
                let mut penalties = Penalties::new(number("repeat"), number("freq"), number("present"));
                let window = number("last_n") as usize;
                for (i, &id) in history.iter().enumerate() {
                    penalties.accept(id, i.checked_sub(window).map(|i| history[i]));
                }
                penalties.apply(c);
            }
            "dry" => {
                let (allowed, last_n) = (number("allowed_length") as u32, number("last_n") as u32);
                let dry = Dry::new(number("multiplier"), number("base"), allowed, last_n, &[], &no_pieces());
                dry.unwrap().apply(c, &history);
            }
            "logit_bias" => {
                for (id, bias) in case["params"].as_object().unwrap() {
                    let bias = bias.as_f64().map_or(f32::NEG_INFINITY, |b| b as f32);
                    c.change(id.parse().unwrap(), |l| l + bias);
                }
            }
            _ => panic!("unknown case {name}"),
        });
        let want: Vec<(u32, f32)> = case["kept"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_u64().unwrap() as u32, pair[1].as_f64().map_or(f32::NEG_INFINITY, |l| l as f32)))
            .collect();
        assert_eq!(got.len(), want.len(), "{name}");
        for (got, want) in got.iter().zip(&want) {
            // dynamic temperature has logarithms of the system's library in it
            let close = got.1 == want.1 || (got.1 - want.1).abs() < 1e-6;
            assert!(got.0 == want.0 && close, "{name}: {got:?}, not {want:?}");
        }
    }
}

#[test]
fn top_k_of_a_large_vocabulary_equals_sorting_it() {
    let mut rng = Mt19937::new(9);
    for k in [1, 2, 40, 1000, 4999, 5000] {
        // few different values, so that ties decide
        let logits: Vec<f32> = (0..5000).map(|_| (rng.bits() % 700) as f32).collect();
        let mut want: Vec<u32> = (0..5000).collect();
        want.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let (mut scratch, mut storage) = (logits.clone(), Storage::default());
        let mut c = Candidates::new(&mut scratch, &mut storage);
        filters::top_k(&mut c, k);
        let got: Vec<u32> = c.list().iter().map(|c| c.id).collect();
        assert_eq!(got, want[..k as usize], "{k}");
    }
}

#[test]
fn top_p_of_a_large_vocabulary_equals_sorting_it() {
    let mut rng = Mt19937::new(4);
    for p in [0.01, 0.5, 0.9, 0.999_9] {
        let logits: Vec<f32> = (0..5000).map(|_| rng.f32() * 6.0).collect();
        let kept = |sorted: bool| -> Vec<u32> {
            let (mut scratch, mut storage) = (logits.clone(), Storage::default());
            let mut c = Candidates::new(&mut scratch, &mut storage);
            if sorted {
                c.sort();
            }
            filters::top_p(&mut c, p, 0);
            c.list().iter().map(|c| c.id).collect()
        };
        let (at_once, by_parts) = (kept(true), kept(false));
        // the sums of probabilities are taken in different orders
        assert!(at_once.len().abs_diff(by_parts.len()) <= 1, "{p}");
        let n = at_once.len().min(by_parts.len());
        assert_eq!(at_once[..n], by_parts[..n], "{p}");
    }
}

#[test]
fn a_chain_of_defaults_is_reproducible_and_greedy_without_temperature() {
    let options = SampleOptions { seed: 7, repeat_penalty: 1.1, ..SampleOptions::default() };
    let run = || -> Vec<u32> {
        let mut sampler = Sampler::new(&options, &no_pieces());
        let one = |_| {
            let id = sampler.sample(&mut LOGITS.clone());
            sampler.accept(id);
            id
        };
        (0..2000).map(one).collect()
    };
    let ids = run();
    assert_eq!(ids, run());
    assert!(ids.iter().all(|&id| LOGITS[id as usize] > 0.0) && ids.iter().any(|&id| id != ids[0]));
    let greedy = SampleOptions { temp: 0.0, ..SampleOptions::default() };
    assert!((0..20).all(|_| Sampler::new(&greedy, &no_pieces()).sample(&mut LOGITS.clone()) == 3));
    let no_end = SampleOptions { temp: 0.0, ignore_eos: true, ..SampleOptions::default() };
    assert_eq!(Sampler::new(&no_end, &no_pieces()).sample(&mut LOGITS.clone()), 9);
}

#[test]
fn a_random_seed_is_told_and_repeats_the_choice() {
    let first = Sampler::new(&SampleOptions::default(), &no_pieces());
    let again = SampleOptions { seed: first.seed(), ..SampleOptions::default() };
    let mut samplers = [first, Sampler::new(&again, &no_pieces())];
    for _ in 0..50 {
        let [a, b] = samplers.each_mut().map(|s| s.sample(&mut LOGITS.clone()));
        assert_eq!(a, b);
    }
    let seeds: Vec<u32> = (0..8).map(|_| Sampler::new(&SampleOptions::default(), &no_pieces()).seed()).collect();
    assert!(seeds.iter().any(|&s| s != seeds[0]));
}

#[test]
fn a_long_history_keeps_the_window_right() {
    // only the last three tokens are penalised, out of many
    let options = SampleOptions { temp: 0.0, repeat_last_n: 3, presence_penalty: 100.0, ..SampleOptions::default() };
    let mut sampler = Sampler::new(&options, &no_pieces());
    let best = [3, 6, 9, 0];
    for i in 0..5000 {
        let id = sampler.sample(&mut LOGITS.clone());
        assert_eq!(id, best[i % 4], "token {i}");
        sampler.accept(id);
    }
    assert!(sampler.history_len() < 2048);
}

#[test]
fn numbers_that_are_none_choose_nothing_and_break_nothing() {
    let every = SampleOptions {
        seed: 1,
        typical: 0.9,
        top_n_sigma: 1.0,
        xtc_probability: 0.5,
        dynatemp_range: 0.3,
        repeat_penalty: 1.2,
        dry_multiplier: 0.8,
        ..SampleOptions::default()
    };
    let with =
        |mirostat, samplers: &[SamplerName]| SampleOptions { mirostat, samplers: samplers.to_vec(), ..every.clone() };
    let chains = [
        every.clone(),
        with(Mirostat::V1, &[]),
        with(Mirostat::V2, &[]),
        SampleOptions { adaptive_target: 0.3, ..with(Mirostat::Off, &[SamplerName::AdaptiveP]) },
        with(Mirostat::Off, &[]),
        with(Mirostat::Off, &[SamplerName::Temperature, SamplerName::TopP, SamplerName::TypP, SamplerName::Penalties]),
    ];
    for options in chains {
        let mut sampler = Sampler::new(&options, &no_pieces());
        for value in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, f32::MAX, f32::MIN] {
            for n in [1, 2, 12] {
                let id = sampler.sample(&mut vec![value; n]);
                assert!((id as usize) < n);
                sampler.accept(id);
            }
            let mut one = [value; 12];
            one[5] = 1.0;
            let id = sampler.sample(&mut one);
            assert!(id == 5 || !(value.is_nan() || value == f32::NEG_INFINITY), "{value} {options:?}");
        }
    }
}

#[test]
fn chains_are_read_by_name_and_letter() {
    assert_eq!(parse_sampler_letters("edskypmxt").unwrap(), SamplerName::DEFAULT);
    let default = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";
    assert_eq!(parse_samplers(default).unwrap(), SamplerName::DEFAULT);
    let aliases = parse_samplers("top-k; topk;nucleus;temp;typ;minp;adaptive-p;").unwrap();
    use SamplerName as S;
    assert_eq!(aliases, [S::TopK, S::TopK, S::TopP, S::Temperature, S::TypP, S::MinP, S::AdaptiveP]);
    let error = parse_samplers("top_k;top_q").unwrap_err();
    assert_eq!(error.to_string(), "unknown sampler `top_q`");
    assert!(error.hint().unwrap().contains("top_n_sigma"));
    assert!(parse_sampler_letters("kq").is_err());
}

/// Chooses tokens of both zeros and many ties by `options`: from all logits, and from the greatest.
fn both_ways(options: &SampleOptions, what: &str) {
    let tokens = no_pieces();
    let (mut whole, mut narrow) = (Sampler::new(options, &tokens), Sampler::new(options, &tokens));
    let mut rng = Mt19937::new(3);
    for step in 0..200 {
        let mut logits = vec![0f32; 300];
        logits.iter_mut().for_each(|l| *l = ((rng.bits() % 64) as f32 - 56.0).max(-0.0) * 0.5 * (step % 4) as f32);
        logits.iter_mut().for_each(|l| *l = if *l == 0.0 && rng.bits().is_multiple_of(2) { -0.0 } else { *l });
        let n = narrow.n_best().unwrap_or_else(|| panic!("{what} goes by the greatest"));
        let mut best: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        best.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
        let chosen = narrow.sample_best(&best[..n], logits.len());
        assert_eq!(chosen, whole.sample(&mut logits), "{what}, step {step}");
        whole.accept(chosen);
        narrow.accept(chosen);
    }
}

#[test]
fn the_greatest_logits_are_enough_for_chains_that_begin_with_top_k() {
    use SamplerName::{AdaptiveP, MinP, Temperature, TopK, TopP, TypP, Xtc};
    for top_k in [1, 2, 40] {
        for samplers in [
            SamplerName::DEFAULT.to_vec(),
            vec![TopK],
            vec![TopK, Temperature, TopP],
            vec![TopP, TopK, TypP, Xtc, Temperature],
            vec![TopK, AdaptiveP],
        ] {
            let mut options = SampleOptions { seed: 11, top_k, samplers, top_p: 1.0, ..SampleOptions::default() };
            both_ways(&options, &format!("{:?} of {top_k}", options.samplers));
            (options.xtc_probability, options.typical, options.adaptive_target) = (0.5, 0.7, 0.3);
            (options.ignore_eos, options.logit_bias) = (true, vec![(7, f32::NEG_INFINITY), (900, f32::NEG_INFINITY)]);
            both_ways(&options, &format!("{:?} of {top_k} with tokens forbidden", options.samplers));
        }
    }
    for samplers in [vec![Temperature], vec![MinP, TopP, Temperature], SamplerName::DEFAULT.to_vec()] {
        let options = SampleOptions { seed: 11, temp: 0.0, samplers, ..SampleOptions::default() };
        assert_eq!(Sampler::new(&options, &no_pieces()).n_best(), Some(1), "{:?}", options.samplers);
        both_ways(&options, &format!("greedy {:?}", options.samplers));
        both_ways(&SampleOptions { ignore_eos: true, ..options }, "greedy with tokens forbidden");
    }
}

#[test]
fn other_chains_go_by_all_logits() {
    let n_best = |change: fn(&mut SampleOptions)| {
        let mut options = SampleOptions { seed: 1, ..SampleOptions::default() };
        change(&mut options);
        Sampler::new(&options, &no_pieces()).n_best()
    };
    assert_eq!(n_best(|_| ()), Some(40));
    assert_eq!(n_best(|o| o.top_k = 0), None);
    assert_eq!(n_best(|o| o.repeat_penalty = 1.1), None);
    assert_eq!(n_best(|o| (o.temp, o.repeat_penalty) = (0.0, 1.1)), None);
    assert_eq!(n_best(|o| o.dry_multiplier = 0.8), None);
    assert_eq!(n_best(|o| o.top_n_sigma = 1.0), None);
    assert_eq!(n_best(|o| o.logit_bias = vec![(5, 1.0)]), None);
    assert_eq!(n_best(|o| o.mirostat = Mirostat::V2), None);
    assert_eq!(n_best(|o| (o.temp, o.dynatemp_range, o.top_k) = (0.0, 0.5, 0)), None);
    // XTC may leave out the greatest: the others of the list matter.
    assert_eq!(n_best(|o| (o.temp, o.xtc_probability) = (0.0, 0.5)), Some(40));
}
