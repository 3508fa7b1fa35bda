PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('audit_head','3 0123');
CREATE TABLE captures (
	id                 INTEGER PRIMARY KEY AUTOINCREMENT,
	source             TEXT NOT NULL,
	path               TEXT NOT NULL,
	name               TEXT NOT NULL,
	case_name          TEXT NOT NULL,
	destination        TEXT NOT NULL,
	state              TEXT NOT NULL CHECK (state IN
		('open', 'sealed', 'held', 'queued', 'done', 'purged', 'quarantined', 'failed')),
	reason             TEXT NOT NULL,
	owned              INTEGER NOT NULL CHECK (owned IN (0, 1)),
	format             TEXT NOT NULL,
	wrapper            TEXT NOT NULL,
	size               INTEGER NOT NULL,
	payload_size       INTEGER NOT NULL,
	sha256             TEXT NOT NULL,
	sha1               TEXT NOT NULL,
	packets            INTEGER NOT NULL,
	packet_bytes       INTEGER NOT NULL,
	first_packet       INTEGER,
	last_packet        INTEGER,
	disorder           INTEGER NOT NULL,
	link_types         TEXT NOT NULL,
	interfaces         INTEGER NOT NULL,
	truncated          INTEGER NOT NULL CHECK (truncated IN (0, 1)),
	note               TEXT NOT NULL,
	tags               TEXT NOT NULL,
	comment            TEXT NOT NULL,
	method             TEXT NOT NULL,
	keylog             TEXT NOT NULL,
	session_name       TEXT NOT NULL DEFAULT '',
	session_id         TEXT NOT NULL DEFAULT '',
	session_url        TEXT NOT NULL DEFAULT '',
	duplicate_of       INTEGER NOT NULL DEFAULT 0,
	possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate IN (0, 1)),
	begun              INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
	created            INTEGER,
	updated            INTEGER
, not_before INTEGER, live TEXT NOT NULL DEFAULT '', summary TEXT NOT NULL DEFAULT '', findings INTEGER NOT NULL DEFAULT 0, unanswered INTEGER NOT NULL DEFAULT 0, threats TEXT NOT NULL DEFAULT '', machines TEXT NOT NULL DEFAULT '', devices TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO captures VALUES(1,'import','/evidence/�a.pcap','�a.pcap','IR-1','https://cloudshark.example','done','',0,'pcap','',1,1,'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','1ca978112ca1bbdcafac231b39a23dc4da786eff',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','n.pcap','0123456789ab','https://cloudshark.example/captures/0123456789ab',0,1,1,1741064767000000008,1741064767000000008,NULL,'','3 flows',0,0,'','','');
INSERT INTO captures VALUES(2,'import','/evidence/b.pcap','b.pcap','IR-1','https://cloudshark.example','held','no findings',0,'pcap','',1,1,'3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d','13e23e8160039594a33894f6564e1b1348bbd7a0',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','[]',replace('from\na disk','\n',char(10)),'','','','','',0,0,0,1741064767000000008,1741064767000000008,NULL,'{"interfaces":[{"name":"eth0","link_type":"EN10MB","filter":"udp","snaplen":262144,"received":5,"dropped":2}],"began":"2023-11-14T22:13:20.000000005Z","reason":"packets","recovered":false,"received":5,"dropped":2,"gaps":[{"interface":"eth0","from":"2023-11-14T22:13:20Z","to":"2023-11-14T22:13:21Z","packets":3,"cause":"no space left on device"}]}','',1,0,'','an iPad','[]');
INSERT INTO captures VALUES(3,'import','/evidence/c.pcap','c.pcap','IR-1','https://cloudshark.example','done','',0,'pcap','',0,0,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855','1e3b0c44298fc1c149afbf4c8996fb92427ae41e',0,180,NULL,NULL,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','','','',0,0,0,1741064767000000008,1741064767000000008,NULL,'','',0,0,'','','');
INSERT INTO captures VALUES(4,'import','/evidence/d.pcap','d.pcap','IR-1','https://cloudshark.example','quarantined','not a capture',0,'pcap','',1,1,'','118ac3e7343f016890c510e93f935261169d9e3f',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','','','',0,0,0,1741064767000000008,1741064767000000008,NULL,'','',0,0,'','','');
INSERT INTO captures VALUES(5,'import','/evidence/a2.pcap','a2.pcap','IR-1','https://cloudshark.example','done','',0,'pcap','',1,1,'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','1ca978112ca1bbdcafac231b39a23dc4da786eff',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','','0123456789ab','',1,0,0,1741064767000000008,1741064767000000008,NULL,'','',0,0,'','','');
INSERT INTO captures VALUES(6,'import','/evidence/e.pcap','e.pcap','IR-1','https://cloudshark.example','queued','503',0,'pcap','',1,1,'3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea','13f79bb7b435b05321651daefd374cdc681dc06f',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','','','',0,0,1,1741064767000000008,1741064767000000008,1741068367000000008,'','',0,0,'','','');
INSERT INTO captures VALUES(7,'import','/evidence/f.pcap','f.pcap','IR-1','https://cloudshark.example','failed','413',0,'pcap','',1,1,'252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111','1252f10c83610ebca1a059c0bae8255eba2f95be',3,180,1700000000123456789,1700000001000000001,0,'["EN10MB","RAW"]',2,0,'','["case:IR-1","a b","ü"]',replace('from\na disk','\n',char(10)),'','','','','',0,0,1,1741064767000000008,1741064767000000008,NULL,'','',0,0,'','','');
CREATE TABLE steps (
	capture    INTEGER NOT NULL REFERENCES captures(id),
	name       TEXT NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('pending', 'started', 'done', 'skipped', 'failed')),
	attempts   INTEGER NOT NULL DEFAULT 0,
	not_before INTEGER,
	class      TEXT NOT NULL DEFAULT '',
	error      TEXT NOT NULL DEFAULT '',
	note       TEXT NOT NULL DEFAULT '',
	owner      TEXT NOT NULL DEFAULT '',
	begun      INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
	updated    INTEGER,
	PRIMARY KEY (capture, name)
) STRICT;
INSERT INTO steps VALUES(1,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(2,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(3,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(4,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(5,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(6,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(7,'inspect','done',1,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(1,'cloudshark','done',1,NULL,'','','sent','',1,1741064767000000008);
INSERT INTO steps VALUES(5,'cloudshark','skipped',0,NULL,'','','','',0,1741064767000000008);
INSERT INTO steps VALUES(6,'cloudshark','pending',1,1741068367000000008,'busy','503','','',1,1741064767000000008);
INSERT INTO steps VALUES(7,'cloudshark','failed',1,NULL,'too_large','413','','',1,1741064767000000008);
CREATE TABLE parts (
	capture            INTEGER NOT NULL REFERENCES captures(id),
	number             INTEGER NOT NULL,
	part_count         INTEGER NOT NULL,
	prefix             BLOB NOT NULL,
	start              INTEGER NOT NULL,
	length             INTEGER NOT NULL,
	size               INTEGER NOT NULL,
	sha256             TEXT NOT NULL,
	sha1               TEXT NOT NULL,
	packets            INTEGER NOT NULL,
	first_packet       INTEGER,
	last_packet        INTEGER,
	name               TEXT NOT NULL,
	session_id         TEXT NOT NULL DEFAULT '',
	possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate IN (0, 1)),
	PRIMARY KEY (capture, number)
) STRICT, WITHOUT ROWID;
INSERT INTO parts VALUES(1,1,1,X'0001',24,7,9,'s','t',3,1700000000123456789,1700000001000000001,'n.pcap','0123456789ab',1);
CREATE TABLE pauses (
	destination TEXT PRIMARY KEY,
	class       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	since       INTEGER,
	until       INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO pauses VALUES('https://cloudshark.example','quota','full',1741064767000000008,1741068367000000008);
CREATE TABLE counts (
	state    TEXT NOT NULL,
	owned    INTEGER NOT NULL,
	captures INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	PRIMARY KEY (state, owned)
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES('done',0,3,2);
INSERT INTO counts VALUES('failed',0,1,1);
INSERT INTO counts VALUES('held',0,1,1);
INSERT INTO counts VALUES('quarantined',0,1,1);
INSERT INTO counts VALUES('queued',0,1,1);
CREATE TABLE files (
	path    TEXT PRIMARY KEY,
	stamp   TEXT NOT NULL,
	capture INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO files VALUES('/watch/�.txt','1',0);
CREATE TABLE events (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	time    INTEGER NOT NULL,
	name    TEXT NOT NULL,
	capture INTEGER NOT NULL,
	data    TEXT NOT NULL
) STRICT;
INSERT INTO events VALUES(4,1741064767000000008,'registered',4,'{"path":"/evidence/d.pcap","size":1,"sha256":"","sha1":"118ac3e7343f016890c510e93f935261169d9e3f","source":"import","case":"IR-1","state":"quarantined","reason":"not a capture"}');
INSERT INTO events VALUES(5,1741064767000000008,'registered',5,'{"path":"/evidence/a2.pcap","size":1,"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","sha1":"1ca978112ca1bbdcafac231b39a23dc4da786eff","source":"import","case":"IR-1","state":"queued"}');
INSERT INTO events VALUES(6,1741064767000000008,'registered',6,'{"path":"/evidence/e.pcap","size":1,"sha256":"3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea","sha1":"13f79bb7b435b05321651daefd374cdc681dc06f","source":"import","case":"IR-1","state":"queued"}');
INSERT INTO events VALUES(7,1741064767000000008,'registered',7,'{"path":"/evidence/f.pcap","size":1,"sha256":"252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111","sha1":"1252f10c83610ebca1a059c0bae8255eba2f95be","source":"import","case":"IR-1","state":"queued"}');
INSERT INTO events VALUES(8,1741064767000000008,'step',1,'{"step":"cloudshark","state":"started","attempts":1}');
INSERT INTO events VALUES(9,1741064767000000008,'part',1,'{"number":1,"session":"0123456789ab","possible_duplicate":true}');
INSERT INTO events VALUES(10,1741064767000000008,'step',1,'{"step":"cloudshark","state":"done","attempts":1,"note":"sent","session_name":"n.pcap","session":"0123456789ab","possible_duplicate":true}');
INSERT INTO events VALUES(11,1741064767000000008,'state',1,'{"from":"queued","to":"done"}');
INSERT INTO events VALUES(12,1741064767000000008,'step',5,'{"step":"cloudshark","state":"skipped","session":"0123456789ab","duplicate_of":1}');
INSERT INTO events VALUES(13,1741064767000000008,'state',5,'{"from":"queued","to":"done"}');
INSERT INTO events VALUES(14,1741064767000000008,'step',6,'{"step":"cloudshark","state":"started","attempts":1}');
INSERT INTO events VALUES(15,1741064767000000008,'step',6,'{"step":"cloudshark","state":"pending","attempts":1,"class":"busy","error":"503"}');
INSERT INTO events VALUES(16,1741064767000000008,'step',7,'{"step":"cloudshark","state":"started","attempts":1}');
INSERT INTO events VALUES(17,1741064767000000008,'step',7,'{"step":"cloudshark","state":"failed","attempts":1,"class":"too_large","error":"413"}');
INSERT INTO events VALUES(18,1741064767000000008,'state',7,'{"from":"queued","to":"failed","reason":"413"}');
INSERT INTO events VALUES(19,1741064767000000008,'start',0,'{"version":"2"}');
INSERT INTO events VALUES(20,1741064767000000008,'trigger',0,'{"trigger":1,"from":"2025-03-04T04:06:07.000000008Z","to":"2025-03-04T05:06:07.000000008Z","by":"signal","reason":"slow"}');
INSERT INTO events VALUES(21,1741064767000000008,'trigger_end',0,'{"trigger":1,"captures":[2],"segments":null,"note":"","error":""}');
INSERT INTO events VALUES(22,1741064767000000008,'finding',2,'{"type":"host","value":"bad.example","first_frame":7,"rating":4.5,"confidence":80,"change":"new"}');
CREATE TABLE triggers (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	asked  INTEGER NOT NULL,
	start  INTEGER NOT NULL,
	stop   INTEGER NOT NULL,
	asker  TEXT NOT NULL,
	reason TEXT NOT NULL,
	source TEXT NOT NULL,
	ended  INTEGER,
	result TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO triggers VALUES(1,1741064767000000008,1741061167000000008,1741064767000000008,'signal','slow','',1741064767000000008,'{"captures":[2],"segments":null,"note":"","error":""}');
CREATE TABLE verdicts (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	key     BLOB NOT NULL UNIQUE,
	source  TEXT NOT NULL,
	type    TEXT NOT NULL,
	value   TEXT NOT NULL,
	known   INTEGER NOT NULL CHECK (known IN (0, 1)),
	answer  TEXT NOT NULL,
	at      INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT;
INSERT INTO verdicts VALUES(1,X'47445ba7b5e656d2d7c949ce6bbebc63','tc','host','bad.example',1,'[1]',1741064767000000008,1741151167000000008);
INSERT INTO verdicts VALUES(2,X'551444267769dfc9aee2b3b3a8ba09e9','tc','host','clean.example',0,'',1741064767000000008,1741068367000000008);
CREATE TABLE findings (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	capture    INTEGER NOT NULL REFERENCES captures(id),
	type       TEXT NOT NULL,
	value      TEXT NOT NULL,
	frame      INTEGER NOT NULL,
	count      INTEGER NOT NULL,
	rating     REAL NOT NULL,
	confidence INTEGER NOT NULL,
	data       TEXT NOT NULL,
	found      INTEGER NOT NULL,
	gone       INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)),
	UNIQUE (capture, type, value)
) STRICT;
INSERT INTO findings VALUES(1,2,'host','bad.example',7,3,4.5,80,'{"owner":"bad.example"}',1741064767000000008,0);
CREATE TABLE acts (
	finding INTEGER NOT NULL REFERENCES findings(id),
	name    TEXT NOT NULL,
	state   TEXT NOT NULL CHECK (state IN ('pending', 'started', 'done', 'failed')),
	error   TEXT NOT NULL DEFAULT '',
	updated INTEGER NOT NULL,
	PRIMARY KEY (finding, name)
) STRICT, WITHOUT ROWID;
INSERT INTO acts VALUES(1,'annotation','started','',1741064767000000008);
CREATE TABLE deliveries (
	capture    INTEGER NOT NULL REFERENCES captures(id),
	destination TEXT NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('pending', 'done', 'skipped', 'failed')),
	note       TEXT NOT NULL DEFAULT '',
	link       TEXT NOT NULL DEFAULT '',
	progress   TEXT NOT NULL DEFAULT '{}',
	attempts   INTEGER NOT NULL DEFAULT 0,
	class      TEXT NOT NULL DEFAULT '',
	error      TEXT NOT NULL DEFAULT '',
	not_before INTEGER,
	updated    INTEGER NOT NULL,
	PRIMARY KEY (capture, destination)
) STRICT, WITHOUT ROWID;
INSERT INTO deliveries VALUES(2,'cado','pending','','','{"stored":true}',0,'','busy',NULL,1741064767000000008);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('captures',7);
INSERT INTO sqlite_sequence VALUES('events',22);
INSERT INTO sqlite_sequence VALUES('triggers',1);
INSERT INTO sqlite_sequence VALUES('verdicts',2);
INSERT INTO sqlite_sequence VALUES('findings',1);
CREATE UNIQUE INDEX captures_identity ON captures(path, sha256, destination);
CREATE INDEX captures_content ON captures(sha256, destination);
CREATE INDEX captures_begun ON captures(sha256, destination) WHERE begun = 1;
CREATE INDEX captures_state ON captures(state, id, size);
CREATE INDEX captures_case ON captures(case_name, id) WHERE case_name <> '';
CREATE INDEX captures_session ON captures(session_id) WHERE session_id <> '';
CREATE INDEX captures_possible_duplicate ON captures(id) WHERE possible_duplicate = 1;
CREATE INDEX steps_waiting ON steps(capture) WHERE not_before IS NOT NULL;
CREATE INDEX parts_session ON parts(session_id) WHERE session_id <> '';
CREATE TRIGGER steps_wait AFTER UPDATE OF not_before ON steps WHEN new.not_before IS NOT old.not_before BEGIN
	UPDATE captures SET not_before = (SELECT max(not_before) FROM steps WHERE capture = new.capture) WHERE id = new.capture;
END;
CREATE INDEX captures_due ON captures(destination, coalesce(first_packet, created), id)
	WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX captures_waiting ON captures(destination, not_before, coalesce(first_packet, created), id)
	WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX captures_expendable ON captures(coalesce(last_packet, created), id)
	WHERE owned = 1 AND state = 'done' AND (session_id <> '' OR packets = 0);
CREATE INDEX captures_held ON captures(coalesce(last_packet, created), id)
	WHERE owned = 1 AND state = 'held';
CREATE INDEX captures_source ON captures(source, id);
CREATE TRIGGER captures_counted_new AFTER INSERT ON captures BEGIN
	INSERT INTO counts VALUES (new.state, new.owned, 1, new.size)
		ON CONFLICT DO UPDATE SET captures = captures + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER captures_counted_again AFTER UPDATE OF state, owned, size ON captures
WHEN new.state <> old.state OR new.owned <> old.owned OR new.size <> old.size BEGIN
	UPDATE counts SET captures = captures - 1, bytes = bytes - old.size WHERE state = old.state AND owned = old.owned;
	INSERT INTO counts VALUES (new.state, new.owned, 1, new.size)
		ON CONFLICT DO UPDATE SET captures = captures + 1, bytes = bytes + excluded.bytes;
END;
CREATE INDEX triggers_asked ON triggers(asked);
CREATE INDEX triggers_open ON triggers(id) WHERE ended IS NULL;
CREATE INDEX captures_flagged ON captures(id) WHERE findings > 0;
CREATE INDEX captures_unanswered ON captures(id) WHERE unanswered > 0;
CREATE INDEX deliveries_open ON deliveries(destination, capture) WHERE state = 'pending';
COMMIT;
PRAGMA application_id = 1668309351;
PRAGMA user_version = 8;
PRAGMA journal_mode = WAL;
