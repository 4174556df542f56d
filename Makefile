VERSION = 1.0.0
PREFIX ?= /usr/local
SBINDIR = $(PREFIX)/sbin
LIBDIR = $(PREFIX)/lib/magent
MANDIR = $(PREFIX)/share/man/man8
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
LIBS = -levent_core -levent_extra

SOURCES = $(wildcard *.c client/*.c mirror/*.c server/*.c)
OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o)
UNITS = $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
U = $(BUILD)/unit

magent: $(BUILD)/magent
	install -m 755 $< $@

$(BUILD)/magent: $(OBJECTS)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A unit test links its module only, and what that is made of.
PROTO = proto proto_base64 proto_meta proto_reply proto_scan
$U/test_address: $(BUILD)/server/address.o
$U/test_block: $(BUILD)/block.o
$U/test_budget: $(addprefix $(BUILD)/,client/budget.o block.o)
$U/test_command: $(addprefix $(BUILD)/,mirror/command.o $(PROTO:=.o))
$U/test_conn: $(addprefix $(BUILD)/,conn.o outbuf.o block.o)
$U/test_dirty: $(BUILD)/mirror/dirty.o
$U/test_effect_table: $(addprefix $(BUILD)/,mirror/command.o $(PROTO:=.o))
$U/test_gate: $(BUILD)/mirror/gate.o
$U/test_identity: $(addprefix $(BUILD)/,mirror/identity.o proto_reply.o)
$U/test_ketama: $(addprefix $(BUILD)/,ketama.o md5.o)
$U/test_keys: $(addprefix $(BUILD)/,mirror/keys.o proto_base64.o)
$U/test_link: $(addprefix $(BUILD)/,server/link.o conn.o outbuf.o block.o $(PROTO:=.o))
$U/test_log: $(BUILD)/log.o
$U/test_outbuf: $(addprefix $(BUILD)/,outbuf.o block.o)
$U/test_md5: $(BUILD)/md5.o
$U/test_pair: $(addprefix $(BUILD)/,mirror/pair.o mirror/peer.o mirror/gate.o mirror/dirty.o \
	mirror/identity.o server/address.o ketama.o md5.o proto_base64.o proto_reply.o)
$U/test_proto: $(addprefix $(BUILD)/,$(PROTO:=.o))
$U/test_budget $U/test_conn $U/test_gate $U/test_link $U/test_pair: UNIT_LIBS = -levent_core

$U/test_%: tests/unit/test_%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.c %.o,$^) \
		$(UNIT_LIBS)

# What the tests run beside magent.
$(BUILD)/load: tests/tools/load.c
$(BUILD)/history $(BUILD)/relay: $(BUILD)/%: tests/faults/%.c
$(BUILD)/load $(BUILD)/history $(BUILD)/relay:
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -pthread -o $@ $<

units: $(UNITS)

# The same with every check that the compiler can build in.
asan:
	$(MAKE) BUILD=build-asan HARDENING=-fPIE CFLAGS="-O1 -g \
	-fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all" build-asan/magent units

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

clean:
	rm -rf build build-* magent

.PHONY: units asan test check-layout check-names check-format install clean
.SECONDARY:
-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)
