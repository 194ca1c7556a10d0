use std::{fs, path::Path};

use forefend_domain::Timestamp;
use forefend_telemetry::host::{
    HostError, Limits, Reader,
    cgroup::{self, CgroupDirs},
    process,
};
use proptest::prelude::*;

const STAT: &str = "4242 (sh) (x) S 1 4242 4242 0 -1 4194560 1200 0 3 0 150 50 0 0 20 0 7 0 987654 10485760 2048 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n";
const STATUS: &str = "Name:\tshop\nState:\tS (sleeping)\nVmRSS:\t    8192 kB\nThreads:\t7\n";
const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
const IO: &str =
    "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";

fn write(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn write_process(root: &Path, stat: &str) {
    let dir = root.join("4242");
    write(&dir, &[("stat", stat), ("status", STATUS), ("limits", LIMITS), ("io", IO)]);
    write(&dir.join("fd"), &[("0", ""), ("1", ""), ("2", "")]);
}

#[test]
fn a_process_is_read_even_with_parentheses_in_its_name() {
    let root = tempfile::tempdir().unwrap();
    write_process(root.path(), STAT);
    let reading = process::read(root.path(), 4242).unwrap();
    assert_eq!((reading.started_ticks, reading.cpu_ticks), (987_654, 200));
    assert_eq!((reading.resident_bytes, reading.threads), (8_192 * 1_024, 7));
    assert_eq!((reading.open_fds, reading.fd_limit, reading.io_bytes), (Some(3), Some(1_024), Some(12_288)));
    let error = process::read(root.path(), 7).unwrap_err().to_string();
    assert!(error.contains("/7/stat"), "{error}");
}

#[test]
fn version_2_groups() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("memory.current", "1000000\n"),
            ("memory.max", "4000000\n"),
            ("memory.stat", "anon 1\nworkingset_inactive_file 9\ninactive_file 300000\nactive_file 5\n"),
            (
                "memory.pressure",
                "some avg10=12.50 avg60=1.00 avg300=0.10 total=999\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n",
            ),
            (
                "cpu.stat",
                "usage_usec 5000000\nuser_usec 1\nnr_periods 10\nnr_throttled 2\nthrottled_usec 70\n",
            ),
            ("cpu.max", "150000 100000\n"),
            ("pids.current", "12\n"),
            ("pids.max", "max\n"),
        ],
    );
    let memory = cgroup::read_memory(dir.path()).unwrap();
    assert_eq!((memory.working_set_bytes, memory.limit_bytes), (700_000, Some(4_000_000)));
    assert_eq!(memory.pressure_ratio, Some(0.125));
    let cpu = cgroup::read_cpu(dir.path(), None).unwrap();
    assert_eq!(
        (cpu.used_ns, cpu.quota_cpus, cpu.throttled_ns),
        (Some(5_000_000_000), Some(1.5), Some(70_000))
    );
    let pids = cgroup::read_pids(dir.path()).unwrap();
    assert_eq!((pids.current, pids.limit), (12, None));
    fs::write(dir.path().join("memory.max"), "max\n").unwrap();
    assert_eq!(cgroup::read_memory(dir.path()).unwrap().limit_bytes, None);
}

#[test]
fn version_1_groups_with_the_accounting_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, cpu, cpuacct) = (dir.path().join("m"), dir.path().join("c"), dir.path().join("a"));
    write(
        &memory,
        &[
            ("memory.usage_in_bytes", "1000000\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 400000\n"),
        ],
    );
    write(
        &cpu,
        &[
            ("cpu.cfs_quota_us", "-1\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 5\n"),
        ],
    );
    write(&cpuacct, &[("cpuacct.usage", "123456789\n")]);
    let reading = cgroup::read_memory(&memory).unwrap();
    assert_eq!(
        (reading.working_set_bytes, reading.limit_bytes, reading.pressure_ratio),
        (600_000, None, None)
    );
    let reading = cgroup::read_cpu(&cpu, Some(&cpuacct)).unwrap();
    assert_eq!(
        (reading.used_ns, reading.quota_cpus, reading.throttled_ns),
        (Some(123_456_789), None, Some(5))
    );
    fs::write(cpu.join("cpu.cfs_quota_us"), "50000\n").unwrap();
    assert_eq!(cgroup::read_cpu(&cpu, Some(&cpuacct)).unwrap().quota_cpus, Some(0.5));
    assert!(matches!(cgroup::read_memory(&cpu), Err(HostError::NoCgroup { .. })));
    assert!(matches!(cgroup::read_cpu(&memory, None), Err(HostError::NoCgroup { .. })));
    fs::write(memory.join("memory.usage_in_bytes"), "many\n").unwrap();
    assert!(cgroup::read_memory(&memory).unwrap_err().to_string().contains("no number of bytes"));
}

fn find(observed: &[forefend_telemetry::host::Observed], name: &str) -> (Option<f64>, Option<f64>) {
    let (spec, value) = observed.iter().find(|(spec, _)| spec.name.as_str() == name).unwrap();
    (*value, spec.limit)
}

#[test]
fn shares_come_from_two_readings_and_a_new_process_is_not_taken_for_the_old() {
    let root = tempfile::tempdir().unwrap();
    write_process(root.path(), STAT);
    let limits = Limits { memory_bytes: Some(1 << 24), host_cpus: 2.0 };
    let mut reader = Reader::new(root.path().into(), Some(4242), CgroupDirs::default(), limits);
    let (first, errors) = reader.read(Timestamp::from_unix_ms(10_000));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(find(&first, "memory_working_set_bytes"), (Some(8_388_608.0), Some(16_777_216.0)));
    assert_eq!(find(&first, "open_fds"), (Some(3.0), Some(1_024.0)));
    assert!(first.iter().all(|(spec, _)| spec.name.as_str() != "cpu_utilisation_ratio"));
    // One more second of CPU time in one second, on two CPUs.
    write_process(root.path(), &STAT.replace(" 150 50 ", " 220 80 "));
    let (second, _) = reader.read(Timestamp::from_unix_ms(11_000));
    assert_eq!(find(&second, "cpu_utilisation_ratio"), (Some(0.5), Some(1.0)));
    write_process(root.path(), &STAT.replace("987654", "999999"));
    let (third, errors) = reader.read(Timestamp::from_unix_ms(12_000));
    assert!(matches!(errors[..], [HostError::AnotherProcess { pid: 4242 }]));
    assert_eq!(find(&third, "memory_working_set_bytes").0, None);
    assert_eq!(find(&third, "cpu_utilisation_ratio").0, None);
}

#[test]
fn this_very_process_can_be_read() {
    let reading = process::read(Path::new("/proc"), std::process::id()).unwrap();
    assert!(reading.resident_bytes > 100_000 && reading.threads >= 1 && reading.started_ticks > 0);
    assert!(reading.open_fds.unwrap() >= 3);
}

/// Found by fuzzing: a quota over an infinite period is no quota of zero CPUs.
#[test]
fn an_odd_quota_is_no_quota() {
    for text in ["888 10e888", "888 0", "0 100000", "-5 100000", "inf 1", "max 100000", "nan nan", ""] {
        assert_eq!(cgroup::parse_cpu_max(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "([A-Za-z_:(). ]{0,12}[0-9]{0,22}\n?){0,20}") {
        let _ = (process::parse_stat(&text), process::parse_status(&text), process::parse_io(&text));
        let _ = (process::parse_fd_limit(&text), cgroup::parse_limit(&text), cgroup::parse_cpu_max(&text));
        let _ = cgroup::parse_pressure(&text);
    }
}
