//! The API description as a snapshot: every change of the wire shows in the difference.

use std::path::Path;

use sampan_api::openapi;

#[test]
fn the_description_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openapi.json");
    let mut now = serde_json::to_string_pretty(&openapi::document("snapshot")).unwrap();
    now.push('\n');
    if std::env::var_os("SAMPAN_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = now.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(
        now == committed,
        "the wire has changed, first at {difference:?}; if that is wanted, run this test with \
         SAMPAN_UPDATE_SNAPSHOTS=1 and commit tests/data/openapi.json"
    );
}
