//! safetensors in and out: memory-mapped and checked on the way in, streamed and atomic on the way out.

use super::{Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
pub use safetensors::Dtype;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

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

/// Writes the tensors and string metadata as one safetensors file, atomically.
pub fn write_tensors(path: &Path, tensors: &[Tensor], metadata: &[(&str, String)]) -> Result<()> {
    let views = tensors.iter().map(|t| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("a tensor's bytes fit its shape");
        (t.name.clone(), view)
    });
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    // serialize_to_file wants a path of its own; the atomic writer gives it one and renames it.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io("write", path, e))?;
    let temporary = parent.join(format!(".{}.{}.tmp", path.file_name().and_then(|n| n.to_str()).unwrap_or("tensors"), std::process::id()));
    let metadata = (!metadata.is_empty()).then_some(metadata);
    let written = serialize_to_file(views, metadata, &temporary)
        .map_err(|e| match e {
            safetensors::SafeTensorError::IoError(e) => e,
            e => std::io::Error::other(e.to_string()),
        })
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(|e| Error::io("write", path, e))
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
    /// [`Error::Io`] when it cannot be opened, [`Error::Corrupt`] when the header is absurd or does not fit the file.
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
        Ok(TensorFile { path: path.into(), tensors, metadata, map })
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

    /// A one-dimensional u32 tensor.
    pub fn u32s(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.bytes(name, Dtype::U32, &[None])?.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
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
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = TensorFile::open(&sample(dir.path())).unwrap();
        assert_eq!(file.f32("a", &[2, 3]).unwrap(), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(file.u64s("n").unwrap(), [7, 8]);
        assert_eq!(file.metadata()["k"], "v");
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
