# cotls: `make help` lists the verbs. GNU make; nothing here runs pkg-config or
# Lua while it is read, so that the verbs can first install what is missing.

# lua5.4, lua5.3, lua5.1 or luajit. Each has a folder of its own, so that one never
# loads what was built for another.
LUA        ?= lua5.4
BUILD       = $(if $(filter lua5.4,$(notdir $(LUA))),build,build/$(notdir $(LUA)))
PREFIX     ?= /usr/local
PKG_CONFIG ?= pkg-config
CFLAGS     ?= -O2
WERROR     ?= -Werror

SPEC = spec
ARGS =

# `make test DEPS=:` trusts that everything is there.
DEPS ?= LUA="$(LUA)" sh scripts/deps.sh

# `once` evaluates at the first use and remembers, after any installation.
once = $(eval $(1) := $(2))$($(1))

LUA_PC         ?= $(call once,LUA_PC,$(shell sh scripts/lua_pc.sh $(LUA) 2>/dev/null))
LUA_VERSION    ?= $(call once,LUA_VERSION,$(shell $(LUA) -e 'io.write(_VERSION:match("%d%.%d"))' 2>/dev/null))
LUA_CFLAGS     ?= $(call once,LUA_CFLAGS,$(shell $(PKG_CONFIG) --cflags $(LUA_PC) 2>/dev/null))
OPENSSL_CFLAGS ?= $(call once,OPENSSL_CFLAGS,$(shell $(PKG_CONFIG) --cflags openssl 2>/dev/null))
OPENSSL_LIBS   ?= $(call once,OPENSSL_LIBS,$(shell $(PKG_CONFIG) --libs openssl 2>/dev/null))

INST_LUADIR ?= $(PREFIX)/share/lua/$(LUA_VERSION)
INST_LIBDIR ?= $(PREFIX)/lib/lua/$(LUA_VERSION)

ifeq ($(shell uname -s),Darwin)
LIBFLAG ?= -bundle -undefined dynamic_lookup
else
LIBFLAG ?= -shared
# OpenSSL keeps pointers into the module (BIO methods, callbacks of ex_data) as
# long as the process lives: closing a Lua state must not unmap it.
STAY_LOADED = -Wl,-z,nodelete
endif

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wcast-qual -Wpointer-arith
# The level is pinned: what a later OpenSSL deprecates must not break the build.
DEFINES  = -DOPENSSL_API_COMPAT=30000 -DOPENSSL_NO_DEPRECATED
COMPILE  = $(CC) -std=gnu11 $(CFLAGS) -fPIC -fvisibility=hidden $(WARNINGS) $(WERROR) \
           $(DEFINES) $(CPPFLAGS) $(LUA_CFLAGS) $(OPENSSL_CFLAGS)
LINK     = $(CC) $(LIBFLAG) $(STAY_LOADED) $(CFLAGS) $(LDFLAGS)

SOURCES = $(wildcard src/*.c)
OBJECTS = $(SOURCES:src/%.c=$(BUILD)/obj/%.o)
CORE    = $(BUILD)/cotls/core.so
MODULES = $(sort $(wildcard lua/cotls/*.lua lua/cotls/*/*.lua))

# The tree's modules come before those of the user's own paths. Lua prefers the
# versioned variables, so these are taken in and then removed. Lua 5.1 and LuaJIT
# have none.
BUILD_DIR = $(if $(filter /%,$(BUILD)),$(BUILD),$(CURDIR)/$(BUILD))
PATHS_OF    = $(if $(filter-out 5.1,$(LUA_VERSION)),$($(1)_$(subst .,_,$(LUA_VERSION))))
USER_PATH   = $(or $(call PATHS_OF,LUA_PATH),$(LUA_PATH))
USER_CPATH  = $(or $(call PATHS_OF,LUA_CPATH),$(LUA_CPATH))
TREE_PATH  = $(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;$(CURDIR)/?.lua;$(or $(USER_PATH),;)
TREE_CPATH = $(BUILD_DIR)/?.so;$(or $(USER_CPATH),;)
IN_TREE    = env -u LUA_PATH_5_4 -u LUA_CPATH_5_4 -u LUA_PATH_5_3 -u LUA_CPATH_5_3 \
             LUA_PATH="$(TREE_PATH)" LUA_CPATH="$(TREE_CPATH)" LUA="$(LUA)"
BUSTED     = scripts/busted.lua $(ARGS)

# V=1 shows the commands themselves.
ifeq ($(V),)
Q    = @
show = @printf '  %-4s  %s\n' '$(1)' '$(2)'
endif

.DEFAULT_GOAL = build
.DELETE_ON_ERROR:
.PHONY: help build deps test test-nginx nginx-core faults faults-asan soak coverage mutants demo bench bench-quick lint \
        format asan valgrind tsan docs rock ci \
        install uninstall clean specs FORCE

help: ## lists these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'Settings: LUA=luajit CC=clang PREFIX=/usr/local DESTDIR= BUILD=build WERROR= V=1 DEPS=:'
	@echo '          SPEC=spec/some_spec.lua ARGS="--filter=words" (for test, asan, valgrind)'

build: $(CORE) ## builds cotls/core.so in the folder BUILD

$(CORE): $(OBJECTS) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call show,LINK,$@)
	$(Q)$(LINK) -o $@ $(OBJECTS) $(OPENSSL_LIBS)

$(BUILD)/obj/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call show,CC,$<)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

# Changes only when the commands or the list of sources do: one folder never
# mixes the objects of two compilers.
$(BUILD)/flags: FORCE
ifeq ($(filter command% environment override,$(origin LUA_CFLAGS)),)
	@sh scripts/lua_pc.sh $(LUA) >/dev/null
endif
ifeq ($(filter command% environment override,$(origin OPENSSL_LIBS)),)
	@$(PKG_CONFIG) --atleast-version=3.0 openssl || { \
	  echo "cotls: needs OpenSSL 3.0 or later with its headers, pkg-config finds" \
	       "$$($(PKG_CONFIG) --modversion openssl 2>/dev/null || echo none) (Debian: libssl-dev)" >&2; exit 1; }
endif
	@mkdir -p $(@D)
	@printf '%s\n' '$(COMPILE)' '$(LINK) $(OPENSSL_LIBS)' '$(OBJECTS)' > $@.$$PPID
	@if cmp -s $@.$$PPID $@; then rm $@.$$PPID; else mv $@.$$PPID $@; fi

-include $(OBJECTS:.o=.d)

deps: ## installs what any verb needs (Debian), or names it
	@$(DEPS) build demo test lint asan valgrind docs rock

test: ## runs the specs
	@$(DEPS) build test
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory specs

# The specs with whatever LUA and BUILD say. COTLS_SLOW tells them by how much
# their time limits are to be stretched.
specs:
	@$(IN_TREE) $(LUA) $(BUSTED) $(SPEC)

# The nginx of Debian's packages, unpacked in build/nginx; it loads the core for LuaJIT.
test-nginx: ## runs cotls in nginx with its Lua module (Debian's, not installed)
	@$(DEPS) build test
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory nginx-core LUA=luajit
	@sh scripts/nginx.sh build/nginx
	@COTLS_NGINX="$(CURDIR)/build/nginx" COTLS_LUAJIT="$(CURDIR)/build/luajit" \
	 $(MAKE) --no-print-directory specs SPEC=spec/nginx

nginx-core:
	@$(DEPS) build
	@$(MAKE) --no-print-directory build

mutants: ## takes out each check of docs/testing.md once and sees its spec fail
	@$(DEPS) build test
	@$(MAKE) --no-print-directory build
	@$(LUA) scripts/mutants.lua $(if $(MUTANTS),"$(MUTANTS)")

# The module with its calls of malloc, recv and others led through scripts/faults/inject.c.
FAULTS_CORE = $(BUILD)/faults/cotls/core.so
FAULTS      = step=1

$(FAULTS_CORE): $(OBJECTS) $(wildcard scripts/faults/*.[ch] scripts/faults/link.sh) $(BUILD)/flags
	$(call show,LINK,$@)
	$(Q)CC="$(CC)" CFLAGS="$(CFLAGS)" LUA="$(LUA)" sh scripts/faults/link.sh $(BUILD)/obj $@

.PHONY: faults-run faults-sweep coverage-runs
faults-run: $(FAULTS_CORE)
	@$(MAKE) --no-print-directory faults-sweep

faults-sweep:
	@$(IN_TREE) LUA_CPATH="$(BUILD_DIR)/faults/?.so;$(TREE_CPATH)" $(LUA) scripts/faults.lua $(FAULTS)

faults: ## lets each allocation and system call fail once (FAULTS="step=new words=hook")
	@$(DEPS) build test
	@$(MAKE) --no-print-directory faults-run

SECONDS = 600

soak: ## churn for SECONDS=600: memory, descriptors, lateness
	@$(DEPS) build test
	@$(MAKE) --no-print-directory build
	@$(IN_TREE) $(LUA) scripts/soak.lua seconds=$(SECONDS)

# Counted by gcov, gathered by lcov: the specs, and short forms of the faults, the random
# operations, the corpora and the churn; then on LuaJIT the specs of how operations wait
# there. What is not run has its reason in docs/testing.md.
COVERAGE        = build/coverage
COVERAGE_ARGS   = --rc lcov_branch_coverage=1 --rc genhtml_branch_coverage=1 -q
COVERAGE_FLAGS  = CFLAGS='-O0 -g --coverage'
COVERAGE_LUAJIT = LUA=luajit BUILD=$(COVERAGE)/luajit $(COVERAGE_FLAGS)
COVERAGE_SPECS  = leave drive error gc hook_wait luasec memory net stream

coverage: ## which lines and branches the specs, faults, fuzz and churn run: build/coverage/html
	@$(DEPS) build test coverage
	@$(if $(filter :,$(DEPS)),:,LUA=luajit sh scripts/deps.sh build test)
	@find $(COVERAGE) -name '*.gcda' -delete 2>/dev/null || :
	@$(MAKE) --no-print-directory build BUILD=$(COVERAGE) $(COVERAGE_FLAGS)
	@$(MAKE) --no-print-directory build $(COVERAGE_LUAJIT)
	@$(MAKE) --no-print-directory coverage-runs BUILD=$(COVERAGE) $(COVERAGE_FLAGS)
	@for name in $(COVERAGE_SPECS); do \
	  COTLS_SLOW=4 $(MAKE) --no-print-directory specs $(COVERAGE_LUAJIT) SPEC=spec/$${name}_spec.lua || \
	    echo 'cotls: specs have failed on LuaJIT'; done
	@lcov $(COVERAGE_ARGS) -c -d $(COVERAGE)/obj -d $(COVERAGE)/luajit/obj -o $(COVERAGE)/all.info \
	  2>$(COVERAGE)/lcov.log
	@lcov $(COVERAGE_ARGS) -e $(COVERAGE)/all.info '*/src/*' -o $(COVERAGE)/src.info 2>>$(COVERAGE)/lcov.log
	@genhtml $(COVERAGE_ARGS) -o $(COVERAGE)/html $(COVERAGE)/src.info 2>>$(COVERAGE)/lcov.log
	@$(LUA) scripts/coverage.lua $(COVERAGE)/src.info

coverage-runs:
	@COTLS_SLOW=4 $(MAKE) --no-print-directory specs || echo 'cotls: specs have failed; what they ran is counted'
	@for faults in 'step=300' 'step=1 kinds=malloc'; do \
	  $(MAKE) --no-print-directory faults-run FAULTS="$$faults" || echo 'cotls: so have faults'; done
	@$(IN_TREE) $(LUA) fuzz/episodes.lua 1 100 || echo 'cotls: so has the model'
	@$(CC) -std=gnu11 -O1 -shared -fPIC $(LUA_CFLAGS) $(OPENSSL_CFLAGS) fuzz/tools.c -o $(BUILD)/tools.so $(OPENSSL_LIBS)
	@$(IN_TREE) $(LUA) fuzz/replay.lua $(BUILD)/tools.so || echo 'cotls: so have the corpora'
	@$(IN_TREE) $(LUA) scripts/soak.lua seconds=20 folder=$(BUILD)/soak || echo 'cotls: so has the churn'

demo: ## an HTTPS server, its clients, what they negotiated
	@$(DEPS) build demo
	@$(MAKE) --no-print-directory build
	@$(IN_TREE) $(LUA) examples/demo.lua

bench: ## the benchmark against the C server and other Lua modules
	@$(DEPS) build bench
	@$(MAKE) --no-print-directory build
	@$(IN_TREE) $(MAKE) --no-print-directory -C bench run BUILD="$(BUILD_DIR)"

bench-quick: ## a short benchmark that only has to finish
	@$(DEPS) build bench
	@$(MAKE) --no-print-directory build
	@$(IN_TREE) $(MAKE) --no-print-directory -C bench quick BUILD="$(BUILD_DIR)"

C_FILES   = $(wildcard src/*.[ch] bench/*.[ch] scripts/*.[ch] scripts/*/*.[ch] fuzz/*.[ch])
LUA_FILES = $(wildcard lua spec examples bench scripts fuzz *.rockspec)

lint: ## clang-format and luacheck
	@$(DEPS) lint
	clang-format --dry-run -Werror $(C_FILES)
	luacheck -q --no-color $(LUA_FILES)

format: ## applies clang-format
	@$(DEPS) lint
	clang-format -i $(C_FILES)

# The interpreter is not instrumented, so the runtimes are preloaded into it, by
# a wrapper that the specs also get as LUA: the Lua programs they start are
# checked too, and openssl, curl and others run untouched (scripts/preload.c).
# ASAN_OPTIONS=fast_unwind_on_malloc=0 shows who called OpenSSL, at some cost: of
# minutes for each file on LuaJIT.
ASAN_CC     ?= gcc
ASAN_BUILD   = $(BUILD)/asan
ASAN_LUA     = $(BUILD_DIR)/asan/lua
ASAN_CFLAGS  = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
               -fno-sanitize-recover=undefined
ASAN_PRELOAD = $$($(ASAN_CC) -print-file-name=libasan.so) $$($(ASAN_CC) -print-file-name=libubsan.so)

.PHONY: asan-build
asan-build:
	@$(DEPS) build test asan
	@$(MAKE) --no-print-directory build BUILD=$(ASAN_BUILD) CC=$(ASAN_CC) CFLAGS='$(ASAN_CFLAGS)'
	@$(ASAN_CC) -shared -fPIC -O1 -o $(ASAN_BUILD)/preload.so scripts/preload.c
	@sh scripts/wrap_lua.sh "$(LUA)" $(ASAN_PRELOAD) "$(BUILD_DIR)/asan/preload.so" > $(ASAN_LUA)
	@chmod +x $(ASAN_LUA)

ASAN_RUN = COTLS_SLOW=4 LSAN_OPTIONS="suppressions=$(CURDIR)/scripts/lsan.supp:print_suppressions=0" \
           $(MAKE) --no-print-directory BUILD=$(ASAN_BUILD) LUA=$(ASAN_LUA)

asan: asan-build ## the specs under AddressSanitizer, LeakSanitizer and UBSan
	@$(ASAN_RUN) specs

faults-asan: asan-build ## make faults under the same
	@$(MAKE) --no-print-directory $(ASAN_BUILD)/faults/cotls/core.so BUILD=$(ASAN_BUILD) CC=$(ASAN_CC) \
	  CFLAGS='$(ASAN_CFLAGS)'
	@$(ASAN_RUN) faults-sweep

SEED ?= 1
RUNS ?= 1000

fuzz: ## random operations at two ends against a model: RUNS=1000 episodes from SEED=1 on
	@$(DEPS) build test
	@$(MAKE) --no-print-directory build
	@$(IN_TREE) $(LUA) fuzz/episodes.lua $(SEED) $(RUNS)

# Bytes of strangers: libFuzzer's inputs go to a function of fuzz/targets. What it
# finds is left in build/fuzz; `make fuzz-keep` takes what was new into the corpora.
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/targets/*.lua)))
FUZZ_SECONDS ?= 60
FUZZ          = build/fuzz
FUZZ_CFLAGS   = -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_SOURCES  = $(wildcard fuzz/*.c src/*.c)

$(FUZZ)/fuzz: $(FUZZ_SOURCES) $(wildcard fuzz/*.h src/*.h)
	@mkdir -p $(@D)
	$(call show,CC,$@)
	$(Q)clang -std=gnu11 $(FUZZ_CFLAGS) $(WARNINGS) $(WERROR) $(DEFINES) $(LUA_CFLAGS) $(OPENSSL_CFLAGS) \
	  $(FUZZ_SOURCES) -o $@ $(shell $(PKG_CONFIG) --libs $(LUA_PC)) $(OPENSSL_LIBS) -lm

.PHONY: fuzz fuzz-bytes fuzz-keep
fuzz-bytes: ## libFuzzer, FUZZ_SECONDS=60 for each of FUZZ_TARGETS
	@$(DEPS) build fuzz
	@$(MAKE) --no-print-directory $(FUZZ)/fuzz
	@printf '%s\n' $(FUZZ_TARGETS) | LUA="$(LUA)" xargs -P 2 -I NAME sh fuzz/run.sh $(FUZZ) NAME $(FUZZ_SECONDS)

fuzz-keep: $(FUZZ)/fuzz
	@for target in $(FUZZ_TARGETS); do \
	  rm -rf $(FUZZ)/kept && mkdir -p $(FUZZ)/kept && \
	  COTLS_FUZZ=$$target $(FUZZ)/fuzz -merge=1 -max_len=2048 -detect_leaks=0 $(FUZZ)/kept $(FUZZ)/$$target \
	    > $(FUZZ)/$$target.log 2>&1 && $(LUA) fuzz/corpus.lua pack $(FUZZ)/kept $$target || exit 1; done

# A subset, since valgrind is slow: what allocates, waits and closes.
VALGRIND_NAMES ?= connection context credential key pkcs12 store trust verify drive error bio_fd bio_stream \
                  session ticket early psk names x509 make_certificate gc hook socket
VALGRIND_SPECS ?= $(wildcard $(VALGRIND_NAMES:%=spec/%_spec.lua))
VALGRIND       ?= valgrind -q --leak-check=full --show-leak-kinds=definite \
                  --errors-for-leak-kinds=definite --error-exitcode=9 --num-callers=30 \
                  --keep-debuginfo=yes --trace-children=no --child-silent-after-fork=yes \
                  --suppressions="$(CURDIR)/scripts/valgrind.supp"

valgrind: ## a subset of the specs under valgrind
	@$(DEPS) build test valgrind
	@test -n "$(strip $(VALGRIND_SPECS))" || { echo 'cotls: no specs for valgrind' >&2; exit 1; }
	@$(MAKE) --no-print-directory build BUILD=$(BUILD)/valgrind CFLAGS='-O1 -g'
	@COTLS_SLOW=20 $(MAKE) --no-print-directory valgrind-specs BUILD=$(BUILD)/valgrind

.PHONY: valgrind-specs
valgrind-specs:
	@$(IN_TREE) $(VALGRIND) $(LUA) $(BUSTED) $(VALGRIND_SPECS)

# Functions' entries and exits are not told: jobs change stacks in between.
TSAN_BUILD  = build/tsan
TSAN_CFLAGS = -O1 -g -fsanitize=thread --param=tsan-instrument-func-entry-exit=0
TSAN_MAKE   = $(MAKE) --no-print-directory BUILD=$(TSAN_BUILD) CC=gcc CFLAGS='$(TSAN_CFLAGS)'

tsan: ## two Lua states in two threads, with hooks that wait, under ThreadSanitizer
	@$(DEPS) build test asan
	@$(TSAN_MAKE) build
	@$(TSAN_MAKE) threads

# At addresses that ThreadSanitizer knows, where the system lets it choose.
.PHONY: threads
threads:
	$(Q)$(COMPILE) -o $(BUILD)/threads scripts/threads.c $(LDFLAGS) $$($(PKG_CONFIG) --libs $(LUA_PC)) -lpthread
	@$(IN_TREE) $$(setarch -R true 2>/dev/null && echo setarch -R) $(BUILD)/threads scripts/threads.lua

docs: ## the HTML reference in docs/reference
	@$(DEPS) build docs
	@rm -rf build/docs docs/reference
	@mkdir -p build/docs docs/reference
	@$(LUA) scripts/reference.lua lua/cotls/types.lua build/docs
	@sh scripts/lua_tool.sh $(LUA) ldoc -q --fatalwarnings -c config.ld .

rock: ## proves that luarocks builds and installs the tree
	@$(DEPS) build demo rock
	@LUA="$(LUA)" sh scripts/check_rock.sh

ci: ## everything that .ci/run does
	@.ci/run

install: build ## copies the modules below PREFIX
	@for file in $(MODULES:lua/%=%); do \
	  mkdir -p "$(DESTDIR)$(INST_LUADIR)/$$(dirname $$file)" && \
	  install -m 644 "lua/$$file" "$(DESTDIR)$(INST_LUADIR)/$$file" || exit 1; done
	@mkdir -p "$(DESTDIR)$(INST_LIBDIR)/cotls"
	@install -m 755 $(CORE) "$(DESTDIR)$(INST_LIBDIR)/cotls/core.so"

# Folders go only when nothing else is in them.
uninstall: ## removes what install has put there
	@cd "$(DESTDIR)$(INST_LUADIR)" 2>/dev/null || exit 0; rm -f $(MODULES:lua/%=%)
	@rm -f "$(DESTDIR)$(INST_LIBDIR)/cotls/core.so"
	@for dir in $(sort $(dir $(MODULES:lua/%=%))); do echo "$(INST_LUADIR)/$$dir"; done | sort -r | \
	  { cat; echo "$(INST_LUADIR)"; dirname "$(INST_LUADIR)"; \
	    echo "$(INST_LIBDIR)/cotls"; echo "$(INST_LIBDIR)"; dirname "$(INST_LIBDIR)"; } | \
	  while read -r dir; do rmdir "$(DESTDIR)$$dir" 2>/dev/null || :; done

clean: ## removes everything that was built
	rm -rf build docs/reference
	@if [ -f bench/Makefile ]; then $(MAKE) --no-print-directory -C bench clean; fi
