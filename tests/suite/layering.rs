//! The table of ARCHITECTURE.md says which module may use which; the code is held to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module -> modules it may use, read from the table's rows `| module | may use |`.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (_, table) = text.split_once("| module | may use |").expect("ARCHITECTURE.md has the table of modules");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let words = |cell: &str| cell.split(',').map(|w| w.trim().trim_matches('`').to_string()).filter(|w| !w.is_empty()).collect::<BTreeSet<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        (cells[0].trim().trim_matches('`').to_string(), words(cells[1]))
    })
    .collect()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without what is compiled for unit tests only, and the files of modules that are.
fn without_tests(file: &Path, text: &str) -> (String, Vec<PathBuf>) {
    let stem = file.file_stem().unwrap();
    let own = if stem == "mod" { file.with_file_name("") } else { file.with_extension("") };
    let (mut code, mut test_files) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push_str(line);
            code.push('\n');
            continue;
        }
        let mut next = lines.next().unwrap_or_default().trim();
        let mut path = None;
        if let Some(named) = next.strip_prefix("#[path = \"") {
            path = Some(file.with_file_name(named.trim_end_matches("\"]")));
            next = lines.next().unwrap_or_default().trim();
        }
        // An item of one line is left out; a block of tests is the end of its file.
        let Some(item) = next.strip_suffix(';') else { break };
        if let Some((_, name)) = item.split_once("mod ") {
            test_files.extend(path.map_or_else(|| vec![own.join(format!("{name}.rs")), own.join(name).join("mod.rs")], |path| vec![path]));
        }
    }
    (code, test_files)
}

/// Top-level modules named after `crate::` in code; comments are not read.
fn used(code: &str) -> BTreeSet<String> {
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let mut names = BTreeSet::new();
    for line in lines {
        for rest in line.split("crate::").skip(1) {
            let group = rest.strip_prefix('{').map(|g| g.split('}').next().unwrap().split(',').collect::<Vec<_>>());
            for item in group.unwrap_or_else(|| vec![rest]) {
                let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                names.insert(name);
            }
        }
    }
    names
}

fn folders_of_src() -> BTreeSet<String> {
    let paths = fs::read_dir("src").unwrap().map(|e| e.unwrap().path());
    paths.filter(|p| p.is_dir()).map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let allowed = allowed();
    let folders = folders_of_src();
    assert_eq!(folders, allowed.keys().cloned().collect(), "the folders of src and the rows of the table");
    let mut wrong = Vec::new();
    for module in &folders {
        let mut files = Vec::new();
        rust_files(&Path::new("src").join(module), &mut files);
        let (mut code_of, mut test_files) = (BTreeMap::new(), BTreeSet::new());
        for file in files {
            let (code, tests) = without_tests(&file, &fs::read_to_string(&file).unwrap());
            code_of.insert(file, code);
            test_files.extend(tests);
        }
        for (file, code) in code_of.into_iter().filter(|(file, _)| !test_files.contains(file)) {
            for name in used(&code) {
                if folders.contains(&name) && name != *module && !allowed[module].contains(&name) {
                    wrong.push(format!("{}: {module} may not use {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_groups_and_skips_comments_and_unit_tests() {
    let text = "#[cfg(test)]\nmod fake;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\nuse crate::{lm::Lm, sae};\n// crate::cli\n\
        let x = crate::corpus::f();\n#[cfg(test)]\nuse crate::explorer;\nuse crate::labels;\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}";
    let (code, test_files) = without_tests(Path::new("src/a/b.rs"), text);
    assert_eq!(used(&code), ["corpus", "labels", "lm", "sae"].map(String::from).into());
    assert_eq!(test_files, ["src/a/b/fake.rs", "src/a/b/fake/mod.rs", "src/a/b_tests.rs"].map(PathBuf::from));
    assert_eq!(without_tests(Path::new("src/a/mod.rs"), "#[cfg(test)]\npub(crate) mod fake;").1[0], Path::new("src/a/fake.rs"));
}
