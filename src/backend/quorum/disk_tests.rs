//! What a disk says of itself, of its list, and of damage.

#![allow(clippy::unwrap_used)]

use super::*;

fn open(dir: &Path, bootstrap: bool) -> Result<(Disk, BTreeMap<ElectionName, Record>), DiskError> {
    open_among(dir, "abc", bootstrap)
}

fn open_among(
    dir: &Path,
    members: &str,
    bootstrap: bool,
) -> Result<(Disk, BTreeMap<ElectionName, Record>), DiskError> {
    let id = |letter: char| letter.to_string().parse::<MemberId>().unwrap();
    let owner = Owner {
        cluster: "bully",
        member: "a".parse().unwrap(),
        members: members.chars().map(id).collect(),
        bootstrap,
    };
    Disk::open(dir, &owner)
}

fn name() -> ElectionName {
    "orders".parse().unwrap()
}

#[test]
fn a_record_comes_back_and_a_whole_disk_knows_what_is_new() {
    let home = tempfile::tempdir().unwrap();
    let (disk, records) = open(home.path(), true).unwrap();
    assert!(records.is_empty() && matches!(disk.start(), Start::Bootstrap));
    let record = Record {
        known: Some(crate::lease::Epoch::new(7).unwrap()),
        ..Record::default()
    };
    disk.keep(&name(), &record).unwrap();
    let busy = open(home.path(), false).unwrap_err().to_string();
    assert!(busy.contains("in use"), "{busy}");
    drop(disk);
    // Without the word, too: it was there from the beginning.
    let (disk, records) = open(home.path(), false).unwrap();
    assert_eq!(records, [(name(), record)].into());
    assert!(matches!(disk.start(), Start::Bootstrap));
}

#[test]
fn a_blank_disk_is_no_founding_one_unless_it_is_said_at_its_first_start() {
    let home = tempfile::tempdir().unwrap();
    let (disk, _) = open(home.path(), false).unwrap();
    assert!(matches!(disk.start(), Start::Blank));
    drop(disk);
    let (disk, _) = open(home.path(), false).unwrap();
    assert!(matches!(disk.start(), Start::Blank));
}

#[test]
fn a_disk_refuses_members_two_apart_from_its_own_and_stays_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    drop(open_among(home.path(), "abcde", true).unwrap());
    let file = home.path().join("quorum/disk.json");
    let before = fs::read(&file).unwrap();
    for another in ["abc", "abcdefg", "abcdf", "a"] {
        let error = open_among(home.path(), another, true).unwrap_err();
        assert!(matches!(error, DiskError::List { .. }), "{error}");
        let (text, path) = (error.to_string(), file.display().to_string());
        assert!(text.contains("a,b,c,d,e") && text.contains(&path), "{text}");
        assert_eq!(fs::read(&file).unwrap(), before, "left as it was");
    }
    for one_apart in ["abcd", "abc", "abcd"] {
        drop(open_among(home.path(), one_apart, false).unwrap());
    }
    assert!(open_among(home.path(), "ac", false).is_err(), "two of abcd");
}

#[test]
fn a_disk_of_a_version_without_lists_takes_the_first_that_is_given() {
    let home = tempfile::tempdir().unwrap();
    drop(open_among(home.path(), "abcde", true).unwrap());
    let file = home.path().join("quorum/disk.json");
    let kept: Option<serde_json::Value> = opened(&file, home.path()).unwrap();
    let mut kept = kept.unwrap();
    kept.as_object_mut().unwrap().remove("list").unwrap();
    fs::write(&file, sealed(&kept, &file).unwrap()).unwrap();
    drop(open_among(home.path(), "abc", false).unwrap());
    open_among(home.path(), "abcde", false).unwrap_err();
}

#[test]
fn no_damage_passes_for_a_record_or_a_blank_disk() {
    let home = tempfile::tempdir().unwrap();
    let (disk, _) = open(home.path(), true).unwrap();
    disk.keep(&name(), &Record::default()).unwrap();
    let (record, catalogue) = (disk.path_of(&name()), disk.dir.join("disk.json"));
    let dir = disk.dir.clone();
    drop(disk);
    for path in [&record, &catalogue] {
        let good = fs::read(path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].into()).collect();
        for at in (0..good.len() * 8).step_by(3) {
            let mut flipped = good.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            damaged.push(flipped);
        }
        for bytes in damaged {
            fs::write(path, &bytes).unwrap();
            refused(home.path(), path);
            assert_eq!(fs::read(path).unwrap(), bytes, "left as it was");
        }
        fs::remove_file(path).unwrap();
        refused(home.path(), path);
        fs::write(path, good).unwrap();
    }
    let peer = dir.join("peer.json");
    let good = fs::read(&peer).unwrap();
    fs::remove_file(&peer).unwrap();
    refused(home.path(), &peer);
    fs::write(&peer, good).unwrap();
    let other = dir.join("elections/other.json");
    fs::copy(&record, &other).unwrap();
    refused(home.path(), &other);
    fs::remove_file(&other).unwrap();
    open(home.path(), false).unwrap();
}

#[track_caller]
fn refused(home: &Path, path: &Path) {
    let error = open(home, true).unwrap_err();
    assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
    let (text, path) = (error.to_string(), path.display().to_string());
    assert!(text.contains(&path) && text.contains("blank"), "{text}");
}
