"""A real kube-apiserver for what `mvd export kubernetes` writes, and the schemas of its custom resources."""
