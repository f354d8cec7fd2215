/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is the interposer armed? See where libxenlight's own relocations of the two functions lead.
 *
 * It is not, without a word from the linker, when libxenlight was in the process before us, with
 * RTLD_LOCAL or RTLD_DEEPBIND, or when libxenstore was made global first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "interposer.h"

/* The parts of an object's dynamic section that name its imported functions. */
struct imports {
	ElfW(Addr) base;
	const ElfW(Sym) *symbols;
	const char *strings;
	const ElfW(Rela) *tables[2];     /* the PLT's, and the others (-fno-plt) */
	size_t counts[2];
};

static const ElfW(Dyn) *dynamic_of(const struct dl_phdr_info *object)
{
	for (int i = 0; i < object->dlpi_phnum; i++)
		if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
			return (const void *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
	return NULL;
}

static void read_imports(ElfW(Addr) base, const ElfW(Dyn) *dynamic, struct imports *imports_r)
{
	memset(imports_r, 0, sizeof(*imports_r));
	imports_r->base = base;
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		ElfW(Addr) value = dynamic->d_un.d_ptr;
		/* glibc has made the addresses absolute in place; other libcs have not */
		const void *address = (const void *)(value < base ? base + value : value);

		switch (dynamic->d_tag) {
		case DT_SYMTAB:   imports_r->symbols = address; break;
		case DT_STRTAB:   imports_r->strings = address; break;
		case DT_JMPREL:   imports_r->tables[0] = address; break;
		case DT_PLTRELSZ: imports_r->counts[0] = value / sizeof(ElfW(Rela)); break;
		case DT_RELA:     imports_r->tables[1] = address; break;
		case DT_RELASZ:   imports_r->counts[1] = value / sizeof(ElfW(Rela)); break;
		}
	}
}

/* Where calls of `name` go; NULL when the object does not import it. */
static void *target_of(const struct imports *imports, const char *name)
{
	for (int table = 0; table < 2; table++) {
		for (size_t i = 0; imports->tables[table] && i < imports->counts[table]; i++) {
			const ElfW(Rela) *rela = &imports->tables[table][i];
			size_t symbol = sizeof(ElfW(Addr)) == 8 ? ELF64_R_SYM(rela->r_info)
								: ELF32_R_SYM(rela->r_info);

			if (symbol && !strcmp(imports->strings + imports->symbols[symbol].st_name, name))
				return *(void **)(imports->base + rela->r_offset);
		}
	}
	return NULL;
}

/*
 * What the interposer at this address, one of our two builds, says of the functions behind it;
 * bypassed when what lies there is none.
 */
static enum xlmt_interposer_arming asked(void *address)
{
	enum xlmt_interposer_arming (*behind)(void);
	Dl_info target, probe;
	void *object;

	if (!address || !dladdr(address, &target))
		return XLMT_INTERPOSER_BYPASSED;
	object = dlopen(target.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (!object)
		return XLMT_INTERPOSER_BYPASSED;
	behind = (enum xlmt_interposer_arming (*)(void))dlsym(object, "xlmt_interposer_behind");
	dlclose(object);
	/* dlsym() also looks into the object's dependencies: those do not count */
	if (!behind || !dladdr((void *)behind, &probe) || probe.dli_fbase != target.dli_fbase)
		return XLMT_INTERPOSER_BYPASSED;
	return behind();
}

static int find_libxl(struct dl_phdr_info *object, size_t size, void *arg)
{
	struct imports *imports_r = arg;
	const ElfW(Dyn) *dynamic;

	(void)size;
	if (!strstr(object->dlpi_name, "/libxenlight.so"))
		return 0;
	dynamic = dynamic_of(object);
	if (dynamic)
		read_imports(object->dlpi_addr, dynamic, imports_r);
	return 1;
}

enum xlmt_interposer_arming xlmt_interposer_arming(void)
{
	struct imports imports = { 0 };
	enum xlmt_interposer_arming answer;
	void *start, *rm;

	if (!dl_iterate_phdr(find_libxl, &imports))
		return XLMT_INTERPOSER_NO_LIBXL;
	if (!imports.symbols || !imports.strings)
		return XLMT_INTERPOSER_UNREADABLE;
	start = target_of(&imports, "xs_transaction_start");
	rm = target_of(&imports, "xs_rm");
	if (!start || !rm)
		return XLMT_INTERPOSER_UNREADABLE;
	answer = asked(start);
	return answer == XLMT_INTERPOSER_ARMED ? asked(rm) : answer;
}
