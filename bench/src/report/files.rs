//! Writing a report: `<scenario>.json`, `<scenario>.md`, and a picture a table.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::report::{Report, Table, markdown, plot};

/// The JSON file: everything, and the tables made of it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    tables: Vec<Table>,
}

/// Writes all files and returns their paths. Each appears whole or not at all.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let document = Document { report, tables: report.tables() };
    let mut files = Vec::new();
    for table in &document.tables {
        files.extend(plot::draw(table, folder, &format!("{}-{}", report.scenario, table.measure.name))?);
    }
    files.push(replace(&folder.join(format!("{}.md", report.scenario)), &markdown::render(report))?);
    let json = serde_json::to_string_pretty(&document).context("writing JSON")?;
    files.push(replace(&folder.join(format!("{}.json", report.scenario)), &(json + "\n"))?);
    Ok(files)
}

fn replace(path: &Path, content: &str) -> Result<PathBuf> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, content).with_context(|| format!("writing {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("replacing {}", path.display()))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn written_json_holds_runs_tables_and_host() {
        let folder = std::env::temp_dir().join(format!("tailwater-bench-files-{}", std::process::id()));
        let files = write(&example::report(), &folder).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("example.json")).unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files.len(), 6, "two tables as SVG and PNG, a page, the data: {files:?}");
        assert_eq!(json["samples"].as_array().map(Vec::len), Some(9));
        assert_eq!(json["tables"][0]["cells"][1]["ratio"]["median"], 1.5);
        assert_eq!(json["host"]["kernel"], "6.18");
    }
}
