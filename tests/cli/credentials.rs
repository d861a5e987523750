//! `--username`, `--password-file` and the TLS files: what is wrong with them is told
//! before anything starts, all together.

use super::settings::{check, problems};

#[test]
fn what_the_store_does_not_take_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (password, pem) = (file("password", "x\n"), file("ca", "no PEM"));
    let everything = [
        "--username",
        "me",
        "--password-file",
        &password,
        "--ca-file",
        &pem,
        "--cert-file",
        &pem,
        "--key-file",
        &pem,
    ];
    let told = problems(&check(&everything, &[], None));
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|line| line.contains("no credentials")));
    let plain = [&["--backend", "redis://h"], &everything[..]].concat();
    let told = problems(&check(&plain, &[], None));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|line| line.contains("rediss://")));
    // In the address and beside it.
    let twice = [("TENURE_BACKEND", "redis://u:p@h")];
    let told = problems(&check(&everything[..4], &twice, None));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("--backend")));
    // A pair is a pair.
    let half = ["--backend", "rediss://h", "--key-file", &pem];
    let told = problems(&check(&half, &[], None));
    assert!(told[0].contains("--cert-file"), "{told:?}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let missing = [
        "--backend",
        "rediss://h",
        "--password-file",
        &path("a"),
        "--ca-file",
        &path("b"),
        "--cert-file",
        &path("c"),
        "--key-file",
        &path("d"),
    ];
    let told = problems(&check(&missing, &[], None));
    assert_eq!(told.len(), 4, "{told:?}");
    for (line, flag) in
        told.iter()
            .zip(["--password-file", "--ca-file", "--cert-file", "--key-file"])
    {
        assert!(
            line.contains(flag) && line.contains("cannot be read"),
            "{line}"
        );
    }
    std::fs::write(home.path().join("empty"), "\n").unwrap();
    for (flag, named) in [
        ("--password-file", "first line is empty"),
        ("--ca-file", "holds no certificate"),
    ] {
        let flags = ["--backend", "rediss://h", flag, &path("empty")];
        let told = problems(&check(&flags, &[], None));
        assert!(
            told[0].contains(named) && told[0].contains("empty"),
            "{told:?}"
        );
    }
    // Files and names are no secrets: they stand in the configuration.
    std::fs::write(home.path().join("password"), "hunter2\n").unwrap();
    let flags = [
        "--backend",
        "redis://h",
        "--username",
        "me",
        "--password-file",
        &path("password"),
    ];
    let ended = check(&flags, &[], None).ok();
    let settings = &ended.json()["settings"];
    assert_eq!(settings["username"], "me");
    assert_eq!(settings["password-file"], path("password"));
    assert!(!ended.text().contains("hunter2"));
}
