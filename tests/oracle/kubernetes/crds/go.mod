module gitops-mvd/tests/oracle/kubernetes/crds

go 1.24

require (
	github.com/kong/kubernetes-configuration v1.5.3
	sigs.k8s.io/gateway-api v1.4.1
)
