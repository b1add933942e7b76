//! YAML documents, bounded; the same reading as sigs.k8s.io/yaml where that is safe.
