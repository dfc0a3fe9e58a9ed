//! `tealight bench`.

use super::*;

#[test]
fn every_form_says_the_same_of_every_combination() {
    let m = &model("qwen3");
    let flags = ["-p", "8,9", "-n", "4", "-d", "0,16", "-pg", "8,4", "-r", "2", "-t", "1", "--device", "cpu"];
    let run = |form: &str| {
        let args = ["bench", m].into_iter().chain(flags).chain(["-o", form]).map(str::to_owned).collect::<Vec<_>>();
        tealight(args).quietly()
    };
    let rows: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    let rows = rows.as_array().unwrap();
    let of = |row: &serde_json::Value| ["n_prompt", "n_gen", "n_depth"].map(|key| row[key].as_u64().unwrap());
    let found: Vec<_> = rows.iter().map(of).collect();
    let tests = |d| [[8, 0, d], [9, 0, d], [0, 4, d], [8, 4, d]];
    assert_eq!(found, [tests(0), tests(16)].concat());
    for row in rows {
        assert_eq!((row["n_threads"].as_u64(), row["type_k"].as_str()), (Some(1), Some("F16")));
        let samples: Vec<f64> = row["samples_ts"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert_eq!(samples.len(), 2);
        let mean = samples.iter().sum::<f64>() / 2.0;
        assert!((row["avg_ts"].as_f64().unwrap() / mean - 1.0).abs() < 1e-9 && mean > 0.0, "{row}");
        assert!(row["stddev_ts"].as_f64().unwrap() >= 0.0);
    }
    assert_eq!(run("jsonl").lines().count(), rows.len());
    assert_eq!(run("csv").lines().count(), rows.len() + 1);
    let table = run("md");
    assert_eq!(table.lines().count(), rows.len() + 2);
    assert!(table.contains("| pp9 @ d16 |"), "{table}");
}

#[test]
fn speeds_stand_beside_the_limits_of_the_same_run() {
    let m = &model("qwen3");
    let rows = |flags: &[&str]| {
        let args = [&["bench", m, "-p", "8", "-n", "2", "-r", "1", "-t", "2", "--device", "cpu", "-o", "json"], flags];
        let rows: serde_json::Value = serde_json::from_str(&tealight(args.concat()).quietly()).unwrap();
        rows.as_array().unwrap().clone()
    };
    for row in rows(&[]) {
        let number = |key: &str| row[key].as_f64();
        let (read, share) = (number("read_gb_per_s").unwrap(), number("read_share").unwrap());
        assert!(read > 0.0 && (number("weights_gb_per_s").unwrap() / read / share - 1.0).abs() < 1e-9, "{row}");
        // Kernels without such instructions have no limit.
        let peak = number("peak_gmac_per_s");
        assert_eq!(peak.is_some(), row["backends"] != "scalar", "{row}");
        let share = peak.map(|peak| number("gmac_per_s").unwrap() / peak / number("peak_share").unwrap());
        assert!(share.is_none_or(|s| (s - 1.0).abs() < 1e-9), "{row}");
    }
    for row in rows(&["--no-limits"]) {
        for key in ["read_gb_per_s", "read_share", "peak_gmac_per_s", "peak_share"] {
            assert!(row.get(key).is_some_and(serde_json::Value::is_null), "{key}: {row}");
        }
    }
}

#[test]
fn kernels_are_measured_without_a_model() {
    let run =
        |form: &str| tealight(["bench", "--kernels", "q4_k", "F16", "--mib", "4", "-t", "1,2", "-o", form]).quietly();
    let rows: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    let rows = rows.as_array().unwrap();
    let of =
        |row: &serde_json::Value| (row["kernels"].to_string(), row["type"].to_string(), row["n_threads"].to_string());
    let found: std::collections::BTreeSet<_> = rows.iter().map(of).collect();
    // The scalar set at least, two formats, two numbers of threads; each combination once.
    assert!(rows.len() >= 4 && rows.len().is_multiple_of(4) && found.len() == rows.len(), "{found:?}");
    for row in rows {
        for key in ["weights_gb_per_s", "read_gb_per_s", "read_share", "cached_gb_per_s"] {
            assert!(row[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {row}");
        }
        for key in ["peak_gmac_per_s", "gmac_per_s_512", "peak_share_8"] {
            assert_eq!(row[key].as_f64().is_some_and(|x| x > 0.0), row["kernels"] != "scalar", "{key}: {row}");
        }
    }
    assert_eq!(run("csv").lines().count(), rows.len() + 1);
    assert_eq!(run("md").lines().count(), rows.len() + 2);
    assert!(tealight(["bench", "--kernels", "Q9_Z"]).error(2).contains("formats are F32"));
    tealight(["bench", "--kernels", "-m", &model("qwen3")]).error(2);
    tealight(["bench", "--kernels", "-p", "8"]).error(2);
    tealight(["bench", &model("qwen3"), "--mib", "8"]).error(2);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let m = &model("qwen3");
    tealight(["bench"]).error(2);
    let error = tealight(["bench", m, "-p", "0", "-n", "0"]).error(2);
    assert!(error.contains("nothing to measure"), "{error}");
    for wrong in [["-p", "4-1"], ["-pg", "5"], ["-r", "0"], ["-o", "xml"]] {
        tealight(["bench", m].into_iter().chain(wrong)).error(2);
    }
}
