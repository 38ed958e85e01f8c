// Marks the module's root only. The real module files are <minor>.mod and
// <minor>.sum beside it: go build -modfile=1.36.mod
module sampan.io/distro/kubernetes

go 1.26.0
