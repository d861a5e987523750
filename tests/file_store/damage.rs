//! Files that were damaged, lost or removed, and directories that are unfit.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tenure::backend::file::{FileStore, FileStoreError};
use tenure::lease::*;
use tenure::time::BootClock;

use super::common::*;

#[tokio::test]
async fn a_damaged_record_is_told_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    let file = only(dir.path(), "e", ".json");
    let whole = fs::read_to_string(&file).unwrap();
    let number = epoch.to_string();
    let other = whole.replace("\"election\": \"e\"", "\"election\": \"f\"");
    let damages = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        "no json".to_owned(),
        "\0".repeat(whole.len()),
        "null".to_owned(),
        whole.replace(&number, "0"),
        whole.replace(&number, "9007199254740992"),
        whole.replace("\"format\": 1", "\"format\": 2"),
        other,
    ];
    for damage in damages {
        assert_ne!(damage, whole, "a damage that changes nothing");
        fs::write(&file, &damage).unwrap();
        let held = claim(epoch, 1);
        let errors = [
            store.observe().await.map(drop),
            store.acquire(&bid(2, TTL)).await.map(drop),
            store.renew(&held).await.map(drop),
            store.release(&held, None).await.map(drop),
            store.read_checkpoint().await.map(drop),
            store
                .write_checkpoint(&write(epoch, 1, None, b"v"))
                .await
                .map(drop),
        ];
        for error in errors {
            let Err(StoreError::Corrupt(text)) = error else {
                panic!("{damage:?} gave {error:?}");
            };
            assert!(text.contains(file.to_str().unwrap()), "{text}");
            assert!(text.contains("move it away"), "{text}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), damage);
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(
        store.renew(&claim(epoch, 1)).await,
        Ok(Renewed::Kept { left: TTL })
    );
}

#[tokio::test]
async fn a_lost_record_or_head_and_a_second_head_are_told() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    win(&*store, 1).await;
    let folder = dir.path().join("e.d");
    let record = only(dir.path(), "e", ".json");
    let whole = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let error = store.observe().await.unwrap_err().to_string();
    assert!(error.contains("it is missing"), "{error}");
    fs::write(&record, whole).unwrap();

    let second = folder.join("head.7-00000000000000aa.7-00000000000000aa");
    fs::write(&second, "").unwrap();
    let error = store.acquire(&bid(2, TTL)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("more than one head")));
    fs::remove_file(&second).unwrap();
    store.observe().await.unwrap();

    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("head.")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let error = store.acquire(&bid(2, TTL)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("no file head")));
}

#[tokio::test]
async fn a_removed_folder_is_an_election_begun_anew() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    // Emptied, and removed with the directory itself.
    let folder = dir.path().join("e.d");
    for entry in fs::read_dir(&folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(store.renew(&claim(epoch, 1)).await, Ok(Renewed::Lost(None)));
    let second = win(&*store, 2).await;
    assert!(second > epoch);
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(store.observe().await, Ok(Observed::default()));
    let mut remembering = bid(3, TTL);
    remembering.floor = Some(second);
    let answer = store.acquire(&remembering).await.unwrap();
    let why = HoldReason::StoreWentBack;
    assert!(
        matches!(answer, Acquired::Hold { why: told, .. } if told == why),
        "{answer:?}"
    );
}

#[test]
fn unfit_directories_are_refused_with_the_mend() {
    let open = |path: &Path| FileStore::open(path, Arc::new(BootClock));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(error, FileStoreError::NotADirectory { .. }));
    assert!(error.to_string().contains(file.to_str().unwrap()));
    let below = file.join("below");
    let error = open(&below).unwrap_err();
    assert!(matches!(error, FileStoreError::Create { .. }));
    assert!(error.to_string().contains(below.to_str().unwrap()));
    let error = open(Path::new("/proc/self")).unwrap_err();
    assert!(
        matches!(error, FileStoreError::NotWritable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("choose another"), "{error}");
    // Missing ones are made.
    let deep = dir.path().join("a/b/c");
    assert_eq!(open(&deep).unwrap().directory(), deep);
    assert!(deep.is_dir());
}
