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
fn what_cannot_be_measured_is_refused() {
    let m = &model("qwen3");
    tealight(["bench"]).error(2);
    let error = tealight(["bench", m, "-p", "0", "-n", "0"]).error(2);
    assert!(error.contains("nothing to measure"), "{error}");
    for wrong in [["-p", "4-1"], ["-pg", "5"], ["-r", "0"], ["-o", "xml"]] {
        tealight(["bench", m].into_iter().chain(wrong)).error(2);
    }
}
