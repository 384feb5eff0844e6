// Package cluster runs several real EdgeCoder servers as processes of this
// machine, on loopback addresses. `edgecoder cluster`, tests and chaos use it.
// It starts the same binary that operators start and talks to it only through
// the public API, so what works here works there.
//
// # Layout of a cluster's directory (mode 0700)
//
//	cluster.json    what CONTRACT.md says; written once all nodes are voters and have a leader
//	starting.json   the same record until then
//	env             shell file that exports the EDGECODER_ variables
//	ca.pem          the certificates of the cluster's CAs, a link to what the first server keeps up to date
//	admin.token     first admin token (0600)
//	mesh.token      one token of role mesh (0600)
//	passphrase      of the servers' key files (0600)
//	lock            held while a command changes the cluster
//	NAME/data       data directory of one server
//	NAME.log        its standard output and error
//
// The directory must belong to whoever uses it and be writable by nobody else;
// any other is refused. Paths follow from the directory and the nodes' names:
// cluster.json tells them to others and is not asked for them.
package cluster
