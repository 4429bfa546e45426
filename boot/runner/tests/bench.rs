//! The benchmark's own side, tried shortly: that it measures, not how fast it is. Every guest has
//! a time limit, and the console of one that misses it is in the error.

use std::process::Command;

use serde_json::Value;

/// What `cargo run -- bench` prints as JSON, fio left out.
fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_basalt-runner"))
        .args(["bench", "--skip-fio", "--json"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("the runner does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the benchmark failed: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn every_depth_is_measured_and_its_figures_agree() {
    let report = bench(&["--time", "0.3", "--ios", "2000", "--depth", "1", "--depth", "16"]);
    let depths = report["depths"].as_array().unwrap();
    assert_eq!(depths.len(), 2, "{report}");
    for (depth, expected) in depths.iter().zip([1, 16]) {
        let number = |name: &str| depth["basalt"][name].as_u64().unwrap();
        assert_eq!(depth["depth"], expected);
        assert!(number("ios") > 0 && number("iops") > 0, "{depth}");
        assert!(number("p50_ns") > 0 && number("p50_ns") <= number("p99_ns"), "{depth}");
        assert!(number("p99_ns") <= number("p999_ns"), "{depth}");
        // More would be an error in counting, not a slow driver: Linux takes some thousands.
        assert!((100..20_000).contains(&number("instructions_per_io")), "{depth}");
        assert!(depth["fio"].is_null());
    }
}

#[test]
fn a_disk_in_a_file_is_read() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let path = disk.path().to_str().unwrap();
    let report = bench(&["--time", "0.2", "--ios", "500", "--depth", "4", "--disk", path]);
    assert!(report["depths"][0]["basalt"]["iops"].as_u64() > Some(0), "{report}");
    assert_eq!(report["disk"], path);
}

#[test]
fn the_boot_takes_a_moment_of_guest_time_and_little_memory() {
    let report = bench(&["--boot"]);
    let number = |name: &str| report["basalt"][name].as_u64().unwrap();
    // Counted in instructions, so that a slow host changes nothing.
    assert!((1..100_000).contains(&number("guest_us")), "{report}");
    assert!((1..2 << 20).contains(&number("files_bytes")), "{report}");
    assert!((1..16 << 10).contains(&number("memory_in_use_kib")), "{report}");
    assert!(number("first_read_min_us") <= number("first_read_us"), "{report}");
    assert!(number("first_read_us") <= number("first_read_max_us"), "{report}");
    assert!(report["linux"].is_null());
}

#[test]
fn a_machine_without_work_is_at_rest_and_answers() {
    let report = bench(&["--idle"]);
    // A core that polls takes a hundred.
    assert!(report["basalt"]["cpu_percent"].as_f64() < Some(50.0), "{report}");
    let answers = ["answer_at_rest_ns", "answer_awake_ns"];
    let answered = |name: &str| report["basalt"][name].as_u64() > Some(0);
    assert!(answers.into_iter().all(answered), "{report}");
    assert!(report["linux"].is_null());
}

#[test]
fn the_target_is_measured_by_reads_and_writes_over_one_and_two_connections() {
    let report = bench(&["--nvmf", "--time", "0.3", "--depth", "4"]);
    let points = report["points"].as_array().unwrap();
    let name = |point: &Value| (point["workload"].clone(), point["connections"].clone());
    let expected = [("randread", 1), ("randwrite", 1), ("randread", 2), ("randwrite", 2)];
    assert_eq!(
        points.iter().map(name).collect::<Vec<_>>(),
        expected.map(|(w, n)| (w.into(), n.into()))
    );
    for point in points {
        let number = |name: &str| point["basalt"][name].as_u64().unwrap();
        assert!(number("iops") > 0 && number("mean_ns") > 0, "{point}");
        assert!(number("p99_ns") > 0 && point["nvmet"].is_null(), "{point}");
    }
    let layers = report["instructions_per_read"].as_object().unwrap();
    let takes = |layer: &str| layers[layer].as_f64().unwrap();
    for layer in ["virtio", "TCP", "PDU", "NVMe-oF", "bdev", "NVMe"] {
        assert!((10.0..100_000.0).contains(&takes(layer)), "{layer}: {report}");
    }
}

#[test]
fn io_goes_on_while_others_call_without_a_pause() {
    let report = bench(&["--nvmf", "--hammer", "--time", "0.3", "--depth", "4"]);
    let [point] = report["points"].as_array().unwrap().as_slice() else { panic!("{report}") };
    for side in ["basalt", "called"] {
        assert!(point[side]["iops"].as_u64() > Some(0), "{side}: {report}");
    }
}

#[test]
fn what_a_read_costs_the_hosted_target_is_counted_by_layer() {
    let arguments = ["--nvmf", "--hosted", "--time", "0.3", "--ios", "2000", "--depth", "128"];
    let report = bench(&arguments);
    let depth = &report["depths"][0];
    let layers = depth["layers"].as_object().unwrap();
    let sum: f64 = layers.values().filter_map(Value::as_f64).sum();
    let all = depth["instructions_per_io"].as_f64().unwrap();
    assert!((sum - all).abs() < 1.0, "{report}");
    // None of them does nothing; together they do less than a driver of Linux.
    assert!(layers["PDU"].as_f64() > Some(10.0) && layers["NVMe-oF"].as_f64() > Some(10.0));
    assert!(layers["sockets"].as_f64() > Some(10.0) && all < 20_000.0, "{report}");
    for figures in ["basalt", "basalt_randwrite"] {
        assert!(depth[figures]["iops"].as_u64() > Some(0), "{report}");
    }
    assert!(report["loopback_pdus_per_s"].as_u64() > Some(0), "{report}");
}
