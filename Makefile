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
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DMAGENT_VERSION='"$(VERSION)"' \
	-MMD -MP $(WARNINGS) $(HARDENING) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(LDFLAGS)
LIBS = -levent_core -levent_extra

PARTS = address block budget client command conn daemon dirty drain dump \
	effect fanout gate identity invalidate ketama keys link listener local \
	log magent md5 mirror multiget options pair place proto proto_meta \
	proto_reply rebuild request server stats work
OBJECTS = $(PARTS:%=$(BUILD)/%.o)
UNITS = address block budget command conn dirty gate identity keys ketama \
	link log md5 proto

magent: $(BUILD)/magent
	install -m 755 $< $@

$(BUILD)/magent: $(OBJECTS)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c | $(BUILD)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A unit test links its module only (and what that is made of).
$(BUILD)/test_command: $(BUILD)/proto.o
$(BUILD)/test_command $(BUILD)/test_proto: $(BUILD)/proto_meta.o \
	$(BUILD)/proto_reply.o
$(BUILD)/test_budget $(BUILD)/test_conn $(BUILD)/test_link: $(BUILD)/block.o
$(BUILD)/test_link: $(BUILD)/conn.o $(BUILD)/proto_reply.o $(BUILD)/proto.o \
	$(BUILD)/proto_meta.o
$(BUILD)/test_budget $(BUILD)/test_conn $(BUILD)/test_gate \
$(BUILD)/test_link: UNIT_LIBS = -levent_core
$(BUILD)/test_identity: $(BUILD)/proto_reply.o
$(BUILD)/test_ketama: $(BUILD)/md5.o
$(BUILD)/test_%: tests/test_%.c $(BUILD)/%.o
	$(CC) $(ALL_CFLAGS) -I. $(ALL_LDFLAGS) -o $@ $(filter %.c %.o,$^) \
		$(UNIT_LIBS)

# What the tests run beside magent.
$(BUILD)/load $(BUILD)/history $(BUILD)/relay: $(BUILD)/%: tests/%.c | $(BUILD)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -pthread -o $@ $<

units: $(UNITS:%=$(BUILD)/test_%)

$(BUILD):
	mkdir -p $@

# The same with every check that the compiler can build in.
asan:
	$(MAKE) BUILD=build-asan HARDENING=-fPIE CFLAGS="-O1 -g \
	-fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all" build-asan/magent units

test:
	scripts/test

install: magent
	install -D -m 755 magent $(DESTDIR)$(SBINDIR)/magent
	install -D -m 755 scripts/check-magent $(DESTDIR)$(LIBDIR)/check-magent
	install -D -m 644 magent.8 $(DESTDIR)$(MANDIR)/magent.8

clean:
	rm -rf build build-* magent

.PHONY: units asan test install clean
.SECONDARY:
-include $(wildcard $(BUILD)/*.d)
