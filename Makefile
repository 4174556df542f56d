VERSION = 1.0.0
PREFIX ?= /usr/local
SBINDIR = $(PREFIX)/sbin
LIBDIR = $(PREFIX)/lib/magent
MANDIR = $(PREFIX)/share/man/man8
COMPLETIONDIR = $(PREFIX)/share/bash-completion/completions
CFLAGS ?= -O2 -g -fno-plt $(LTO)
# Calls between the files are short and many; clang would need its own linker.
LTO = $(if $(findstring clang,$(CC)),,-flto=auto)
BUILD = build

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wvla
HARDENING = -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. -DMAGENT_VERSION='"$(VERSION)"' \
	-MMD -MP $(WARNINGS) $(HARDENING) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(LDFLAGS)
LIBS = -levent_extra -levent_core -pthread

SOURCES = $(wildcard *.c client/*.c mirror/*.c server/*.c)
PAGE = $(BUILD)/client/status_page
OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o) $(PAGE).o
UNITS = $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
U = $(BUILD)/unit

magent: $(BUILD)/magent
	install -m 755 $< $@

$(BUILD)/magent: $(OBJECTS)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The page of --metrics, as the bytes of an array.
$(PAGE).c: client/status.html
	@mkdir -p $(@D)
	@{ echo '#include "client/status.h"'; \
	echo 'const unsigned char status_page[] = {'; \
	od -A n -v -t u1 $< | sed 's/[0-9][0-9]*/&,/g'; \
	echo '};'; \
	echo 'const size_t status_page_bytes = sizeof(status_page);'; } >$@

$(PAGE).o: $(PAGE).c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A unit test links its module only, and what that is made of.
PROTO = proto proto_base64 proto_meta proto_reply proto_scan
OF = $(addprefix $(BUILD)/,$(1:=.o))
$U/test_abilities: $(call OF,mirror/abilities mirror/identity proto_reply)
$U/test_address: $(call OF,server/address)
$U/test_blame: $(call OF,mirror/blame)
$U/test_block: $(call OF,block)
$U/test_bond: $(call OF,mirror/bond md5 $(PROTO))
$U/test_budget: $(call OF,client/budget pool block)
$U/test_carry: $(call OF,carry)
$U/test_claim: $(call OF,mirror/claim)
$U/test_classic: $(call OF,mirror/classic mirror/command mirror/abilities \
	mirror/identity $(PROTO))
$U/test_command: $(call OF,mirror/command $(PROTO))
$U/test_compare: $(call OF,mirror/compare mirror/holding mirror/item \
	mirror/giveback mirror/classic mirror/command mirror/abilities \
	mirror/identity siphash $(PROTO))
$U/test_conn: $(call OF,conn outbuf pool block)
$U/test_copy: $(call OF,mirror/copy mirror/item mirror/giveback \
	mirror/command mirror/abilities mirror/identity block $(PROTO))
$U/test_dirty: $(call OF,mirror/dirty siphash)
$U/test_effect_table: $(call OF,mirror/outcome mirror/command $(PROTO))
$U/test_due: $(call OF,mirror/due)
$U/test_endpoint: $(call OF,server/endpoint server/address log)
$U/test_gate: $(call OF,mirror/gate)
$U/test_host: $(call OF,client/host)
$U/test_hotkeys: $(call OF,client/hotkeys)
$U/test_histogram: $(call OF,histogram carry log)
$U/test_history: $(call OF,client/history histogram carry log)
$U/test_holding: $(call OF,mirror/holding siphash)
$U/test_inspect: $(call OF,mirror/inspect mirror/holding siphash pool block \
	log)
$U/test_identity: $(call OF,mirror/identity proto_reply)
$U/test_ketama: $(call OF,ketama md5)
$U/test_json: $(call OF,client/json)
$U/test_keys: $(call OF,mirror/keys block)
$U/test_link: $(call OF,server/link conn outbuf pool block log histogram \
	carry $(PROTO))
$U/test_log: $(call OF,log)
$U/test_marks: $(call OF,mirror/marks mirror/command mirror/abilities \
	mirror/identity siphash $(PROTO))
$U/test_md5: $(call OF,md5)
$U/test_outbuf: $(call OF,outbuf pool block)
$U/test_operator: $(call OF,mirror/operator)
$U/test_pace: $(call OF,mirror/pace)
$U/test_pair: $(call OF,mirror/pair mirror/peer mirror/behind mirror/blame \
	mirror/bond mirror/command mirror/dirty mirror/identity mirror/stamp \
	server/zombie server/address block ketama log md5 pool siphash $(PROTO))
$U/test_pool: $(call OF,pool block)
$U/test_proto: $(call OF,$(PROTO))
$U/test_proto_base64: $(call OF,proto_base64)
$U/test_rate: $(call OF,mirror/rate)
$U/test_repair: $(call OF,mirror/repair)
$U/test_resolver: $(call OF,server/resolver)
$U/test_serving: $(call OF,mirror/serving carry)
$U/test_siphash: $(call OF,siphash)
$U/test_tokens: $(call OF,mirror/tokens mirror/abilities mirror/blame \
	mirror/identity mirror/dirty siphash $(PROTO))
$U/test_undecided: $(call OF,mirror/undecided mirror/dirty siphash)
$U/test_unfinished: $(call OF,client/unfinished client/budget pool block)
$U/test_zombie: $(call OF,server/zombie)
UNITS_OF_LOOP = json unfinished hotkeys bond budget conn dirty endpoint gate \
	inspect link marks pace pair resolver serving tokens undecided zombie
$(UNITS_OF_LOOP:%=$U/test_%): UNIT_LIBS = -levent_core -pthread

$U/test_%: tests/unit/test_%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.c %.o,$^) \
		$(UNIT_LIBS)

# What the tests run beside magent.
$(BUILD)/load: tests/tools/load.c tests/tools/stream.c
$(BUILD)/history $(BUILD)/relay: $(BUILD)/%: tests/faults/%.c
$(BUILD)/load $(BUILD)/history $(BUILD)/relay:
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -pthread -o $@ $(filter %.c,$^)

units: $(UNITS)

# The same with every check that the compiler can build in.
asan:
	$(MAKE) BUILD=build-asan HARDENING=-fPIE CFLAGS="-O1 -g -DHOT_ASSERTS \
	-fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all" build-asan/magent units

check:
	scripts/check

test:
	scripts/test

# Which file may include which, and that headers compile alone; that names of
# static functions are unique; that clang-format would change nothing.
check-layout:
	scripts/check-source layout

check-names:
	scripts/check-source names

check-format:
	scripts/check-source format

install: magent
	install -D -m 755 magent $(DESTDIR)$(SBINDIR)/magent
	install -D -m 755 scripts/check-magent $(DESTDIR)$(LIBDIR)/check-magent
	install -D -m 644 magent.8 $(DESTDIR)$(MANDIR)/magent.8
	install -D -m 644 scripts/magent.bash-completion \
		$(DESTDIR)$(COMPLETIONDIR)/magent

# The source, as an archive that is built by itself.
dist:
	scripts/dist magent-$(VERSION) magent-$(VERSION).tar.gz

# The package for Debian, in build-deb.
deb:
	scripts/deb $(VERSION) build-deb

clean:
	rm -rf build build-* magent

.PHONY: units asan check test check-layout check-names check-format install \
	dist deb clean
.SECONDARY:
-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)
