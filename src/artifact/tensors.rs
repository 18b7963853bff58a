//! safetensors in and out: memory-mapped and checked on the way in, streamed and atomic on the way out.

use super::{Error, Result, write_atomic};
use half::{bf16, f16};
use memmap2::Mmap;
pub use safetensors::Dtype;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The longest header that safetensors readers accept.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// One tensor to write: row-major little-endian bytes.
pub struct Tensor<'a> {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: std::borrow::Cow<'a, [u8]>,
}

macro_rules! from_slice {
    ($name:ident, $t:ty, $dtype:expr) => {
        /// A tensor over a slice, without a copy on little-endian machines.
        pub fn $name(name: impl Into<String>, shape: &[usize], data: &'a [$t]) -> Self {
            assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} does not hold {} elements", data.len());
            Tensor { name: name.into(), dtype: $dtype, shape: shape.to_vec(), bytes: bytemuck::cast_slice(data).into() }
        }
    };
}

impl<'a> Tensor<'a> {
    from_slice!(f32, f32, Dtype::F32);
    from_slice!(f64, f64, Dtype::F64);
    from_slice!(u16, u16, Dtype::U16);
    from_slice!(u32, u32, Dtype::U32);
    from_slice!(u64, u64, Dtype::U64);
    from_slice!(bf16, bf16, Dtype::BF16);
}

/// Writes the tensors and string metadata as one safetensors file, atomically. The same input gives the same bytes: metadata are sorted by
/// key, tensors as the safetensors library sorts them (widest type first, then by name); that library itself writes metadata in hash order.
///
/// # Errors
/// [`Error::Io`] with the path, also when the header is longer than the 100 MB that readers accept or a tensor name is given twice.
pub fn write_tensors(path: &Path, tensors: &[Tensor], metadata: &[(&str, String)]) -> Result<()> {
    let sorted = in_file_order(tensors);
    let header = header(&sorted, metadata).map_err(|e| Error::io("write", path, std::io::Error::other(e)))?;
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        sorted.iter().try_for_each(|t| out.write_all(&t.bytes))
    })
}

/// Widest type first, then by name.
fn in_file_order<'a>(tensors: &'a [Tensor<'a>]) -> Vec<&'a Tensor<'a>> {
    let mut sorted: Vec<&Tensor> = tensors.iter().collect();
    sorted.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    sorted
}

/// The metadata of a sealed file that hold two hashes, with a colon between: of its header, that is of the other metadata and of names, types and shapes, and of the
/// bytes of all tensors.
const SEAL: &str = "blake3";

/// As [`write_tensors`], with hashes of all that is in it, for a file that no manifest has the hash of. Opening it compares that of the header.
///
/// # Errors
/// As [`write_tensors`].
pub fn write_sealed(path: &Path, tensors: &[Tensor], metadata: &[(&str, String)]) -> Result<()> {
    let sorted = in_file_order(tensors);
    let said = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let header = seal_of_header(&said, &tensors.iter().map(|t| (t.name.as_str(), (t.dtype, &t.shape[..]))).collect());
    let data = seal_of_data(sorted.iter().map(|t| &t.bytes[..]));
    write_tensors(path, tensors, &[metadata, &[(SEAL, format!("{header}:{data}"))]].concat())
}

/// blake3 of metadata and of names, types and shapes of tensors, hex.
fn seal_of_header(metadata: &BTreeMap<&str, &str>, tensors: &BTreeMap<&str, (Dtype, &[usize])>) -> String {
    blake3::hash(serde_json::json!([metadata, tensors]).to_string().as_bytes()).to_hex().to_string()
}

/// blake3 of the bytes of tensors in the order of the file, hex.
fn seal_of_data<'a>(data: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    data.for_each(|bytes| {
        hasher.update(bytes);
    });
    hasher.finalize().to_hex().to_string()
}

/// The JSON header of a file with these tensors in this order, padded with blanks to whole groups of eight bytes.
fn header(tensors: &[&Tensor], metadata: &[(&str, String)]) -> std::result::Result<Vec<u8>, String> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let sorted: BTreeMap<&str, &str> = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
        header.insert("__metadata__".into(), serde_json::json!(sorted));
    }
    let mut start = 0;
    for t in tensors {
        let size = t.shape.iter().product::<usize>() * t.dtype.bitsize() / 8;
        assert_eq!(size, t.bytes.len(), "{:?} {:?} is {size} bytes, tensor {:?} has {}", t.dtype, t.shape, t.name, t.bytes.len());
        let end = start + size;
        let entry = serde_json::json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": [start, end] });
        if header.insert(t.name.clone(), entry).is_some() {
            return Err(format!("two entries of the header are named {:?}", t.name));
        }
        start = end;
    }
    let mut bytes = serde_json::Value::Object(header).to_string().into_bytes();
    if bytes.len() > MAX_HEADER_BYTES {
        return Err(format!("a header of {} bytes, readers accept {MAX_HEADER_BYTES}", bytes.len()));
    }
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

/// A safetensors file mapped into memory, its header already checked (length, offsets and sizes against the file).
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
}

/// Where one tensor lies in the map.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl TensorFile {
    /// Maps and checks `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened, [`Error::Corrupt`] when the header is absurd, does not fit the file or is not the one that it was sealed with.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io("open", path, e);
        let file = File::open(path).map_err(io)?;
        let corrupt = |what: String| Error::Corrupt { path: path.into(), what };
        if file.metadata().map_err(io)?.len() < 8 {
            return Err(corrupt("it is shorter than a safetensors header".into()));
        }
        // SAFETY: the map is read-only; files of a run are replaced by rename, never written in place, so the mapped bytes do not change.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let parsed = SafeTensors::deserialize(&map).map_err(|e| corrupt(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&map).map_err(|e| corrupt(e.to_string()))?;
        let base = map.as_ptr() as usize;
        let entry = |view: &TensorView| {
            let start = view.data().as_ptr() as usize - base;
            Entry { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: start..start + view.data().len() }
        };
        let tensors = parsed.iter().map(|(name, view)| (name.to_string(), entry(&view))).collect();
        let metadata = header.metadata().clone().unwrap_or_default();
        let file = TensorFile { path: path.into(), tensors, metadata, map };
        file.check_header()?;
        Ok(file)
    }

    /// Compares the bytes of all tensors with the hash that they were written with; a file without one passes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the beginnings of both.
    pub fn check_seal(&self) -> Result<()> {
        let Some((_, expected)) = self.seal() else { return Ok(()) };
        let header = u64::from_le_bytes(self.map[..8].try_into().expect("eight bytes"));
        self.same_seal("blake3 of its tensors", &seal_of_data(std::iter::once(&self.map[8 + header as usize..])), expected)
    }

    /// The hashes of header and tensors.
    fn seal(&self) -> Option<(&str, &str)> {
        self.metadata.get(SEAL)?.split_once(':')
    }

    fn check_header(&self) -> Result<()> {
        let Some((expected, _)) = self.seal() else { return Ok(()) };
        let said = self.metadata.iter().filter(|(key, _)| *key != SEAL).map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let tensors = self.tensors.iter().map(|(name, entry)| (name.as_str(), (entry.dtype, &entry.shape[..]))).collect();
        self.same_seal("blake3 of its header", &seal_of_header(&said, &tensors), expected)
    }

    fn same_seal(&self, which: &str, found: &str, expected: &str) -> Result<()> {
        let brief = |hash: &str| hash.chars().take(16).collect::<String>();
        let what = || format!("the {which} is {}, it was written with {}", brief(found), brief(expected));
        if found == expected { Ok(()) } else { Err(Error::Corrupt { path: self.path.clone(), what: what() }) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    pub fn metadata(&self) -> HashMap<String, String> {
        self.metadata.clone()
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::Tensor {
            path: self.path.clone(),
            tensor: name.into(),
            found: "missing".into(),
            expected: format!("one of {:?}", self.names()),
        })
    }

    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.entry(name)?.shape.clone())
    }

    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.entry(name)?.dtype)
    }

    /// The raw little-endian bytes of a tensor of the given dtype and shape; a `None` in `shape` matches any size.
    pub fn bytes(&self, name: &str, dtype: Dtype, shape: &[Option<usize>]) -> Result<&[u8]> {
        let entry = self.entry(name)?;
        let fits = entry.shape.len() == shape.len() && entry.shape.iter().zip(shape).all(|(&a, b)| b.is_none_or(|b| a == b));
        if entry.dtype != dtype || !fits {
            let sizes: Vec<String> = shape.iter().map(|n| n.map_or("any".into(), |n| n.to_string())).collect();
            return Err(self.mismatch(name, entry, &format!("{dtype:?} [{}]", sizes.join(", "))));
        }
        Ok(&self.map[entry.bytes.clone()])
    }

    fn mismatch(&self, name: &str, entry: &Entry, expected: &str) -> Error {
        Error::Tensor {
            path: self.path.clone(),
            tensor: name.into(),
            found: format!("{:?} {:?}", entry.dtype, entry.shape),
            expected: expected.into(),
        }
    }

    /// A floating-point tensor widened to f32 (from F32, F16, BF16 or F64); the shape must be exactly `shape`.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        if entry.shape != shape {
            return Err(self.mismatch(name, entry, &format!("floats {shape:?}")));
        }
        let data = &self.map[entry.bytes.clone()];
        Ok(match entry.dtype {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("chunks of eight")) as f32).collect(),
            _ => return Err(self.mismatch(name, entry, &format!("floats {shape:?}"))),
        })
    }

    /// A one-dimensional u64 tensor.
    pub fn u64s(&self, name: &str) -> Result<Vec<u64>> {
        Ok(self.bytes(name, Dtype::U64, &[None])?.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("chunks of eight"))).collect())
    }

    /// A one-dimensional u16 tensor.
    pub fn u16s(&self, name: &str) -> Result<Vec<u16>> {
        Ok(self.bytes(name, Dtype::U16, &[None])?.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(dir: &Path) -> PathBuf {
        let path = dir.join("t.safetensors");
        write_tensors(&path, &[Tensor::f32("a", &[2, 3], &[1., 2., 3., 4., 5., 6.]), Tensor::u64("n", &[2], &[7, 8])], &[("k", "v".into())]).unwrap();
        path
    }

    #[test]
    fn a_flipped_bit_of_a_sealed_file_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let tensors = [Tensor::u64("n", &[2], &[7, 8]), Tensor::f32("a", &[2, 3], &[1., 2., 3., 4., 5., 6.])];
        write_sealed(&path, &tensors, &[("run", "settings".into())]).unwrap();
        TensorFile::open(&path).unwrap().check_seal().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let find = |text: &[u8]| whole.windows(text.len()).position(|w| w == text).unwrap();
        // A value, a name, a type, a shape; a number of the one tensor and of the other.
        let header = [find(b"settings"), find(b"\"n\"") + 1, find(b"\"F32\"") + 1, find(b"[2,3]") + 1];
        for at in header.into_iter().chain([whole.len() - 30, whole.len() - 1]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            let checked = TensorFile::open(&path).and_then(|file| file.check_seal());
            assert!(matches!(checked, Err(Error::Corrupt { .. })), "{at}: {checked:?}");
        }
        TensorFile::open(&sample(dir.path())).unwrap().check_seal().unwrap();
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = TensorFile::open(&sample(dir.path())).unwrap();
        assert_eq!(file.f32("a", &[2, 3]).unwrap(), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(file.u64s("n").unwrap(), [7, 8]);
        assert_eq!(file.metadata()["k"], "v");
    }

    #[test]
    fn files_are_those_of_the_safetensors_library_whatever_the_order_of_tensors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let (bytes, wide, halves) = ([1u16, 2, 3], [4u64, 5], [bf16::ONE; 6]);
        let tensors = || {
            vec![
                Tensor::u16("z", &[3], &bytes),
                Tensor::u64("b", &[2], &wide),
                Tensor::bf16("a \"\u{e9}", &[1, 6], &halves),
                Tensor::u64("a", &[2], &wide),
            ]
        };
        for metadata in [None, Some(("key", "a \"value\"\n".to_string()))] {
            let theirs = safetensors::serialize(
                tensors().into_iter().map(|t| (t.name.clone(), Owned(t))),
                metadata.iter().map(|(k, v)| [(k.to_string(), v.clone())].into()).next(),
            );
            let mut tensors = tensors();
            for _ in 0..tensors.len() {
                tensors.rotate_left(1);
                write_tensors(&path, &tensors, metadata.as_slice()).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), *theirs.as_ref().unwrap());
            }
        }
    }

    struct Owned<'a>(Tensor<'a>);

    impl safetensors::View for Owned<'_> {
        fn dtype(&self) -> Dtype {
            self.0.dtype
        }
        fn shape(&self) -> &[usize] {
            &self.0.shape
        }
        fn data(&self) -> std::borrow::Cow<'_, [u8]> {
            self.0.bytes.clone()
        }
        fn data_len(&self) -> usize {
            self.0.bytes.len()
        }
    }

    #[test]
    fn metadata_are_written_in_the_order_of_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let keys = ["m", "c", "z", "a", "k"];
        let mut written = Vec::new();
        for turn in 0..keys.len() {
            let metadata: Vec<_> = (0..keys.len()).map(|i| keys[(i + turn) % keys.len()]).map(|key| (key, key.to_uppercase())).collect();
            write_tensors(&path, &[Tensor::u32("t", &[1], &[1])], &metadata).unwrap();
            written.push(std::fs::read(&path).unwrap());
            assert_eq!(TensorFile::open(&path).unwrap().metadata(), metadata.iter().map(|(k, v)| (k.to_string(), v.clone())).collect());
        }
        assert!(written[0][8..].starts_with(br#"{"__metadata__":{"a":"A","c":"C","k":"K","m":"M","z":"Z"},"t":"#));
        assert!(written.iter().all(|bytes| *bytes == written[0]));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let error = write_tensors(&path, &[Tensor::u32("t", &[1], &[1]), Tensor::u32("t", &[1], &[1])], &[]).unwrap_err();
        assert!(error.to_string().contains("\"t\"") && !path.exists(), "{error}");
    }

    #[test]
    fn a_wrong_shape_is_refused_with_both_shapes() {
        let dir = tempfile::tempdir().unwrap();
        let file = TensorFile::open(&sample(dir.path())).unwrap();
        let error = file.f32("a", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
    }

    #[test]
    fn an_absurd_header_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(TensorFile::open(&path), Err(Error::Corrupt { .. })));
    }

    proptest! {
        #[test]
        fn no_damage_to_the_file_makes_the_reader_panic(cut in 0usize..200, at in 0usize..200, flip in 1u8..) {
            let dir = tempfile::tempdir().unwrap();
            let path = sample(dir.path());
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            bytes.truncate(bytes.len().saturating_sub(cut % 50));
            std::fs::write(&path, bytes).unwrap();
            if let Ok(file) = TensorFile::open(&path) {
                for name in file.names() {
                    let _ = file.f32(&name, &[2, 3]);
                    let _ = file.u64s(&name);
                }
                let _ = file.metadata();
            }
        }
    }
}
