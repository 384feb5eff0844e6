// Package ledger is what the replicated ledger and its independent verifier share:
// amounts, ids that carry their time, contribution reports, the arithmetic of
// issuance, and the records of history. It is pure, and knows neither the state
// machine nor the network: an auditor's program needs nothing else.
//
// # Amounts
//
// Money is counted in micro-credits, whole numbers of at most [MaxMicro], which
// every JSON reader holds exactly. Every entry takes from one account what it gives
// to another, so the sum over all accounts is zero; what is in circulation is what
// the account [Issuance] owes.
//
// # Records
//
// A record is two items of deterministic CBOR (RFC 8949 section 4.2.1), one behind
// the other: the body, an array, and the hash, a byte string of 32. The hash is the
// SHA-256 of the text "edgecoder ledger record v1\n" and the body. The body is
//
//	[seq, index, at_ms, kind, prev, actor, …]
//
// with the number of the record from 1, the index of the log entry it came from,
// the cluster clock in Unix milliseconds, the kind, the hash of the record before (of the
// first [Genesis]), and who asked: its standing at that index, one of "admin:",
// "operator:", "token:" (an API token that is neither), "agent:" and "node:", and its
// id; empty for what nobody asked for: ends of holds, shares, and reports that policy
// lets count by themselves. The members of the kind follow:
//
//	1 policy    version, id_window_ms, hold_max_ms, report_keep_ms, confirm, base, min, max, slope, alpha, max_weight
//	2 account   id, kind, owner, floor, frozen
//	3 transfer  id, ref, debit, credit, amount, debit_balance, credit_balance
//	4 hold      id, ref, debit, credit, amount, expires_ms, debit_held
//	5 post      id, ref, hold, debit, credit, amount, debit_balance, debit_held, credit_balance
//	6 void      id, ref, hold, debit, debit_held
//	7 expire    hold, debit, debit_held
//	8 report    id, agent, account, payer, task, class, duration_ms, ok, key, signature, cluster_id
//	9 confirm   report, account, weight, window_ms
//	10 reject   report, account
//	11 epoch    window_ms, queued, agents, cpu, gpu, smoothed, pool, weight, accounts
//	12 share    window_ms, account, weight, amount, balance, withheld
//	13 recovery epoch, floor_ms, was_ms, cluster_id
//	14 key      account, key
//
// A key is the one of the account's agent that signs its reports from here on.
//
// Balances are those right after the record, so a page of records is a statement by
// itself. There is a record for each change that took effect, and none for a refusal.
package ledger
