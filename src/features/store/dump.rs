//! The tables as they are, for exports: every column of every table, so that none is forgotten when one is added.

use super::Dictionary;
use crate::features::Result;
use rusqlite::types::Value;

/// What a column was declared to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Integer,
    Real,
    Text,
    Blob,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    pub nullable: bool,
}

impl Dictionary {
    /// Names of the tables that hold rows of the dictionary; without `meta`, which [`Dictionary::meta`] is, and without the search index.
    pub fn tables(&self) -> Result<Vec<String>> {
        let names = "SELECT name FROM pragma_table_list
                     WHERE type = 'table' AND schema = 'main' AND name != 'meta' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        self.rows(names, [], |r| r.get(0))
    }

    pub fn columns(&self, table: &str) -> Result<Vec<Column>> {
        self.rows("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1) ORDER BY cid", [table], |r| {
            let kind = match r.get::<_, String>(1)?.as_str() {
                "INTEGER" => ColumnKind::Integer,
                "REAL" => ColumnKind::Real,
                "TEXT" => ColumnKind::Text,
                _ => ColumnKind::Blob,
            };
            Ok(Column { name: r.get(0)?, kind, nullable: r.get::<_, i64>(2)? == 0 && r.get::<_, i64>(3)? == 0 })
        })
    }

    /// Gives every row of a table to `each`; those with a feature by feature, group and number. It ends at the first error.
    pub fn dump(&self, table: &str, each: &mut dyn FnMut(Vec<Value>) -> Result<()>) -> Result<()> {
        let columns = self.columns(table)?;
        let known = |name: &&&str| columns.iter().any(|c| c.name == **name);
        let order: Vec<&str> = ["feature", "place", "up", "rank", "id"].iter().filter(known).copied().collect();
        let order = if order.is_empty() { String::new() } else { format!("ORDER BY {}", order.join(", ")) };
        // The name comes from `tables`, never from outside.
        let sql = format!("SELECT * FROM \"{}\" {order}", table.replace('"', "\"\""));
        let mut statement = self.sql.prepare(&sql).map_err(|e| self.sql_error(e))?;
        let mut rows = statement.query([]).map_err(|e| self.sql_error(e))?;
        while let Some(row) = rows.next().map_err(|e| self.sql_error(e))? {
            let cells = (0..columns.len()).map(|i| row.get(i)).collect::<rusqlite::Result<Vec<Value>>>();
            each(cells.map_err(|e| self.sql_error(e))?)?;
        }
        Ok(())
    }
}
