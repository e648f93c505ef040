# A folder that runs on another machine: the program, its libraries, the GPU part and the GPU tests.

## bundle          build/bundle: everything but CUDA and cuDNN, to copy to a machine with a GPU
BUNDLE       := build/bundle
# the budget: 50 MiB
BUNDLE_KIB   := 51200
# what the other machine must have itself: the C and C++ libraries (cuDNN needs both), the driver,
# CUDA and cuDNN
BUNDLE_SYSTEM := ld-linux[^ ]*|linux-vdso[^ ]*|lib(c|m|dl|rt|pthread|util|resolv|gcc_s)\.so\.[0-9]+|libstdc\+\+\.so\.6|libcuda\.[^ ]*|lib(nvidia|cudnn|cublas|cudart|nvrtc|cupti)[^ ]*
# what is linked by others and never called: see mk/hollow.sh
BUNDLE_HOLLOW := libcurl.so.4 libcrypto.so.3 libOpenCL.so.1
# what the GPU tests read
BUNDLE_DATA  := digits
BUNDLE_TERMINFO := x/xterm x/xterm-256color s/screen s/screen-256color t/tmux-256color l/linux v/vt100
BUNDLE_STRIP := $(if $(SAN),true,strip)

.PHONY: bundle
bundle: all gpu-programs
	@command -v patchelf >/dev/null || { echo "bundle: patchelf is missing: apt-get install patchelf" >&2; exit 2; }
	@echo "  BUNDLE  $(BUNDLE)"
	$(Q)rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)/bin $(BUNDLE)/lib $(BUNDLE)/libexec $(BUNDLE)/share/layertop
	$(Q)cp $(PROGRAM) $(BUNDLE)/bin/layertop
	$(Q)$(if $(CUDA_TARGETS),cp $(CUDA_SO) $(BUNDLE)/lib/)
	$(Q)for f in $(B)/tests/gpu/*; do case $$f in *.d|*.o) ;; *) cp $$f $(BUNDLE)/libexec/ ;; esac; done
	$(Q)cp tests/gpu/run.sh $(BUNDLE)/libexec/
	$(Q)mkdir $(BUNDLE)/libexec/bench && cp tests/bench/gpu.py tests/bench/gpu_peer.py tests/bench/models.py $(BUNDLE)/libexec/bench/
	$(Q)cp tests/bench/gpu.sh $(BUNDLE)/libexec/bench-gpu.sh
	$(Q)cp -R share/layertop/. $(BUNDLE)/share/layertop/
	$(Q)mkdir $(BUNDLE)/libexec/data && cp -R $(BUNDLE_DATA:%=tests/data/%) $(BUNDLE)/libexec/data/
	$(Q)for t in $(BUNDLE_TERMINFO); do for d in /etc/terminfo /lib/terminfo /usr/share/terminfo; do \
	    [ -f $$d/$$t ] && mkdir -p $(BUNDLE)/share/terminfo/$${t%%/*} && \
	    cp -L $$d/$$t $(BUNDLE)/share/terminfo/$$t && break; done; done; true
# every library that any of the programs needs, but for those the machine must have
	$(Q)mk/collect.sh $(BUNDLE)/lib '$(BUNDLE_SYSTEM)' '$(BUNDLE_HOLLOW)' $(BUNDLE)/bin/layertop $(wildcard $(CUDA_SO)) \
	    $$(find $(BUNDLE)/libexec -maxdepth 1 -type f -perm -u+x ! -name '*.sh')
	$(Q)find $(BUNDLE)/bin $(BUNDLE)/lib $(BUNDLE)/libexec -type f ! -path '*/data/*' ! -name '*.sh' ! -name '*.py' \
	    | while read -r f; do chmod u+w $$f; $(BUNDLE_STRIP) $$f; done
# DT_RPATH, not RUNPATH: it also holds for what the libraries themselves need, before LD_LIBRARY_PATH;
# so the libraries stay as they are (patchelf would move their tables and add 220 KiB)
	$(Q)for f in $(BUNDLE)/bin/* $$(find $(BUNDLE)/libexec -maxdepth 1 -type f ! -name '*.sh'); do \
	    patchelf --force-rpath --set-rpath '$$ORIGIN/../lib' $$f; done
	$(Q)echo $(GPU_CONTENT) >$(BUNDLE)/CONTENT; git rev-parse HEAD >$(BUNDLE)/COMMIT 2>/dev/null || echo unknown >$(BUNDLE)/COMMIT
	$(Q)printf '%s\n' 'bin/layertop runs from here, wherever this folder is.' \
	    'It needs a glibc and libstdc++ as new as on the machine that built it; for the GPU also the driver and cuDNN 9.' \
	    'No terminfo on this machine? export TERMINFO=/this/folder/share/terminfo' \
	    'GPU tests: libexec/run.sh /this/folder OUT' \
	    'GPU bench: libexec/bench-gpu.sh /this/folder OUT --budget-s 540' >$(BUNDLE)/README
# what a program finds it finds by its own path; the module is opened by it, and searches there too
	@missing=$$(LD_LIBRARY_PATH= ldd $(BUNDLE)/bin/layertop | grep 'not found'; \
	    LD_LIBRARY_PATH=$(BUNDLE)/lib ldd $(BUNDLE)/lib/* | grep 'not found'); \
	    [ -z "$$missing" ] || { echo "bundle: $$missing" >&2; exit 1; }
	@size=$$(du -sk --apparent-size $(BUNDLE) | cut -f1); echo "  bundle: $$size KiB of $(BUNDLE_KIB)"; \
	    [ $$size -le $(BUNDLE_KIB) ] || { du -k $(BUNDLE)/lib/* $(BUNDLE)/bin/* $(BUNDLE)/libexec/* | sort -rn | head -8 >&2; \
	    echo "bundle: larger than $(BUNDLE_KIB) KiB" >&2; exit 1; }
