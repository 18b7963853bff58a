//! Parquet files whose pages are looked at before the library believes them: it makes room for as many entries of a dictionary, and as many lengths of
//! delta-encoded texts, as a page claims, and a claim of a thousand million ends the program.

use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::fs::File;

/// Lengths that a page may hold: 64 MiB of them. Writers put some 20,000 values into a page, at most a million.
const MOST_VALUES: u64 = 1 << 24;

/// How deep a column is nested: what its levels take in a page depends on it.
#[derive(Debug, Clone, Copy)]
struct Levels {
    repetition: i16,
    definition: i16,
}

fn refuse<T>(what: String) -> Result<T> {
    Err(ParquetError::General(what))
}

fn check(page: Page, levels: Levels) -> Result<Page> {
    match &page {
        // An entry of a dictionary has at least one byte.
        Page::DictionaryPage { buf, num_values, .. } if *num_values as usize > buf.len() => {
            return refuse(format!("a dictionary of {num_values} entries in {} bytes", buf.len()));
        }
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, .. } if is_delta(*encoding) => {
            let after = skip_levels(buf, levels.repetition, *rep_level_encoding, *num_values)?;
            check_lengths(skip_levels(after, levels.definition, *def_level_encoding, *num_values)?, *num_values, *encoding)?;
        }
        Page::DataPageV2 { buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, .. } if is_delta(*encoding) => {
            let at = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            check_lengths(buf.get(at..).unwrap_or_default(), *num_values, *encoding)?;
        }
        _ => {}
    }
    Ok(page)
}

fn is_delta(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY)
}

/// What is behind the levels of a page of the first version.
fn skip_levels(buf: &[u8], deepest: i16, encoding: Encoding, num_values: u32) -> Result<&[u8]> {
    if deepest == 0 {
        return Ok(buf);
    }
    #[allow(deprecated)]
    let n = match encoding {
        Encoding::BIT_PACKED => (num_values as usize * (16 - (deepest as u16).leading_zeros()) as usize).div_ceil(8),
        _ => 4 + buf.first_chunk().map_or(0, |n| u32::from_le_bytes(*n) as usize),
    };
    buf.get(n..).map_or_else(|| refuse(format!("levels of {n} bytes in a page of {}", buf.len())), Ok)
}

/// Looks at the number of values that each list of packed differences claims: one of lengths, or of prefixes and of what follows them.
fn check_lengths(values: &[u8], num_values: u32, encoding: Encoding) -> Result<()> {
    // A page of nulls alone.
    if values.is_empty() {
        return Ok(());
    }
    let rest = check_packed(values, num_values)?;
    if encoding == Encoding::DELTA_BYTE_ARRAY {
        check_packed(rest, num_values)?;
    }
    Ok(())
}

/// Walks over one list of packed differences (block size, parts of a block, number of values, first value, blocks), returns what is behind it.
fn check_packed(mut from: &[u8], num_values: u32) -> Result<&[u8]> {
    let block = variable(&mut from)?;
    let parts = variable(&mut from)?;
    let count = variable(&mut from)?;
    variable(&mut from)?;
    if count > num_values as u64 || count > MOST_VALUES {
        return refuse(format!("{count} delta-encoded values in a page of {num_values}; at most {MOST_VALUES} are read"));
    }
    if block == 0 || parts == 0 || block > MOST_VALUES || !block.is_multiple_of(parts) {
        return refuse(format!("blocks of {block} delta-encoded values in {parts} parts"));
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        // The smallest difference, then the width of each part.
        variable(&mut from)?;
        let Some((widths, packed)) = from.split_at_checked(parts as usize) else { return refuse("a block of values that is cut short".into()) };
        from = packed;
        for width in widths {
            if left == 0 {
                break;
            }
            let bytes = (block / parts * *width as u64).div_ceil(8) as usize;
            // The last part may end with its last value.
            from = from.get(bytes..).unwrap_or_default();
            left = left.saturating_sub(block / parts);
        }
    }
    Ok(from)
}

/// A number of seven bits a byte, the lowest first.
fn variable(from: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = from.split_first() else { return refuse("a page that ends inside a number".into()) };
        *from = rest;
        value |= ((byte & 0x7f) as u64) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    refuse("a number of more than 64 bits".into())
}

pub struct Checked(pub SerializedFileReader<File>);

impl FileReader for Checked {
    fn metadata(&self) -> &ParquetMetaData {
        self.0.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.0.num_row_groups()
    }

    fn get_row_group(&self, i: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(CheckedGroup(self.0.get_row_group(i)?)))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

struct CheckedGroup<'a>(Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for CheckedGroup<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let column = self.0.metadata().column(i).column_descr();
        let levels = Levels { repetition: column.max_rep_level(), definition: column.max_def_level() };
        Ok(Box::new(CheckedPages { pages: self.0.get_column_page_reader(i)?, levels }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.0.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct CheckedPages {
    pages: Box<dyn PageReader>,
    levels: Levels,
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.pages.get_next_page()?.map(|page| check(page, self.levels)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    use std::sync::Arc;

    const FLAT: Levels = Levels { repetition: 0, definition: 0 };

    #[test]
    fn a_dictionary_that_claims_more_entries_than_it_has_bytes_is_refused() {
        let page = |num_values| Page::DictionaryPage { buf: vec![0; 12].into(), num_values, encoding: Encoding::PLAIN, is_sorted: false };
        assert!(check(page(3), FLAT).is_ok() && check(page(12), FLAT).is_ok());
        // Found by fuzzing: 1,108,024,542 entries of 32 bytes were made room for.
        assert!(check(page(1_108_024_542), FLAT).unwrap_err().to_string().contains("1108024542 entries in 12 bytes"));
    }

    fn delta(count: u64, num_values: u32) -> Page {
        let mut buf = vec![0x80, 1, 4];
        let mut n = count;
        while n > 0x7f {
            buf.push(n as u8 | 0x80);
            n >>= 7;
        }
        buf.extend([n as u8, 0]);
        buf.extend([0; 40]);
        let encoding = Encoding::DELTA_LENGTH_BYTE_ARRAY;
        Page::DataPage {
            buf: buf.into(),
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    #[test]
    fn lengths_are_as_many_as_the_page_has_values() {
        assert!(check(delta(3, 3), FLAT).is_ok());
        // 230 bytes made room for 40 GB.
        assert!(check(delta(10_000_000_000, 3), FLAT).unwrap_err().to_string().contains("10000000000 delta-encoded values in a page of 3"));
        assert!(check(delta(1 << 30, 1 << 30), FLAT).is_err(), "the page's own number is a claim as well");
    }

    /// Texts written by the library with this encoding, plain and optional, come back.
    #[test]
    fn files_with_delta_encodings_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..3000).map(|i| format!("text {} {}", i * i, "x".repeat(i % 90))).collect();
        for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                for optional in [false, true] {
                    let path = dir.path().join("t.parquet");
                    let kind = if optional { "OPTIONAL" } else { "REQUIRED" };
                    let schema = parquet::schema::parser::parse_message_type(&format!("message m {{ {kind} BYTE_ARRAY text (UTF8); }}")).unwrap();
                    let properties = WriterProperties::builder()
                        .set_writer_version(version)
                        .set_dictionary_enabled(false)
                        .set_encoding(encoding)
                        .set_data_page_row_count_limit(700)
                        .set_write_batch_size(100)
                        .build();
                    let mut file = SerializedFileWriter::new(File::create(&path).unwrap(), Arc::new(schema), Arc::new(properties)).unwrap();
                    let mut group = file.next_row_group().unwrap();
                    let mut column = group.next_column().unwrap().unwrap();
                    let values: Vec<ByteArray> = texts.iter().map(|t| ByteArray::from(t.as_bytes().to_vec())).collect();
                    let levels = vec![1; texts.len()];
                    column.typed::<ByteArrayType>().write_batch(&values, optional.then_some(&levels[..]), None).unwrap();
                    column.close().unwrap();
                    group.close().unwrap();
                    file.close().unwrap();
                    let reader = Checked(SerializedFileReader::new(File::open(&path).unwrap()).unwrap());
                    let read: Vec<String> =
                        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_column_iter().next().unwrap().1.to_string()).collect();
                    let want: Vec<String> = texts.iter().map(|t| format!("\"{t}\"")).collect();
                    assert!(read == want, "{encoding} {version:?} {kind}: {} of {} rows", read.len(), want.len());
                }
            }
        }
    }
}
