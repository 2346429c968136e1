package respapi

import "testing"

// TestIncrEx holds INCREX to what the documentation of Redis 8.8 says of it;
// the Redis that TestAsRedis asks has no such command.
func TestIncrEx(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for _, row := range []struct{ name, send, want string }{
			{"by one from nothing", "INCREX a\r\nINCREX a\r\nGET a", "*2 :1 :1 *2 :2 :1 $1 2 "},
			{"by a number", "INCREX a BYINT 5\r\nINCREX a byint -7", "*2 :5 :5 *2 :-2 :-7 "},
			{"above the bound nothing is created", "INCREX a BYINT 5 UBOUND 3\r\nEXISTS a", "*2 :0 :0 :0 "},
			{"above the bound value and time stay", "SET a 1 EX 100\r\nINCREX a BYINT 5 UBOUND 3 EX 500\r\nGET a\r\nTTL a", "+OK *2 :1 :0 $1 1 :100 "},
			{"below the bound PERSIST does nothing", "SET a 1 EX 100\r\nINCREX a BYINT -5 LBOUND 0 PERSIST\r\nTTL a", "+OK *2 :1 :0 :100 "},
			{"at the bounds", "INCREX a BYINT 3 UBOUND 3\r\nINCREX a BYINT -6 LBOUND -3", "*2 :3 :3 *2 :-3 :-6 "},
			{"saturated", "INCREX a BYINT 5 UBOUND 3 SATURATE\r\nINCREX a BYINT -9 LBOUND -1 SATURATE\r\nGET a", "*2 :3 :3 *2 :-1 :-4 $2 -1 "},
			{"saturated sets the time", "INCREX a BYINT 5 UBOUND 3 SATURATE EX 100\r\nTTL a", "*2 :3 :3 :100 "},
			{"range of integers", "SET a 9223372036854775800\r\nINCREX a BYINT 10\r\nINCREX a BYINT 10 SATURATE", "+OK *2 :9223372036854775800 :0 *2 :9223372036854775807 :7 "},
			{"negative range of integers", "SET a -9223372036854775800\r\nINCREX a BYINT -10\r\nINCREX a BYINT -10 SATURATE", "+OK *2 :-9223372036854775800 :0 *2 :-9223372036854775808 :-8 "},
			{"without a time the old one stays", "SET a 1 EX 100\r\nINCREX a\r\nTTL a", "+OK *2 :2 :1 :100 "},
			{"EX and PX", "INCREX a EX 100\r\nTTL a\r\nINCREX a PX 200000\r\nTTL a", "*2 :1 :1 :100 *2 :2 :1 :200 "},
			{"EXAT and PXAT", "INCREX a EXAT 4102444800\r\nEXPIRETIME a\r\nINCREX a PXAT 4102444801000\r\nEXPIRETIME a", "*2 :1 :1 :4102444800 *2 :2 :1 :4102444801 "},
			{"a time in the past removes", "SET a 1\r\nINCREX a EXAT 1\r\nEXISTS a", "+OK *2 :2 :1 :0 "},
			{"PERSIST", "SET a 1 EX 100\r\nINCREX a PERSIST\r\nTTL a", "+OK *2 :2 :1 :-1 "},
			{"ENX leaves a time that is set", "INCREX a EX 100 ENX\r\nINCREX a EX 500 ENX\r\nTTL a", "*2 :1 :1 *2 :2 :1 :100 "},
			{"ENX sets one where there is none", "SET a 1\r\nINCREX a EX 500 ENX\r\nTTL a", "+OK *2 :2 :1 :500 "},
			{"options in any order", "INCREX a ENX EX 100 SATURATE UBOUND 3 LBOUND 0 BYINT 9\r\nTTL a", "*2 :3 :3 :100 "},
			{"of a set", "SADD a x\r\nINCREX a", ":1 -WRONGTYPE Operation against a key holding the wrong kind of value "},
			{"bounds the wrong way round", "INCREX a LBOUND 3 UBOUND 2", "-ERR LBOUND can't be greater than UBOUND "},
			{"no integer", "INCREX a BYINT x\r\nINCREX a UBOUND 1.5\r\nINCREX a EX x", "-ERR value is not an integer or out of range -ERR value is not an integer or out of range -ERR value is not an integer or out of range "},
			{"a time that is none", "INCREX a EX 0\r\nINCREX a PX -1", "-ERR invalid expire time in 'increx' command -ERR invalid expire time in 'increx' command "},
			{"two times", "INCREX a EX 1 PX 1\r\nINCREX a EX 1 PERSIST", "-ERR syntax error -ERR syntax error "},
			{"ENX without a time", "INCREX a ENX\r\nINCREX a PERSIST ENX", "-ERR syntax error -ERR syntax error "},
			{"an option cut short", "INCREX a BYINT\r\nINCREX a EX\r\nINCREX a LBOUND", "-ERR syntax error -ERR syntax error -ERR syntax error "},
			{"unknown option", "INCREX a BY 1", "-ERR syntax error "},
			{"floats are not served", "INCREX a BYFLOAT 1.5", "-ERR INCREX BYFLOAT is not served: counters are integers "},
		} {
			if got := talk(t, dial(t, addr), "FLUSHALL\r\n"+row.send); got != "+OK "+row.want {
				t.Errorf("%s: sent %q\n got %q\nwant %q", row.name, row.send, got, "+OK "+row.want)
			}
		}
	})
}
